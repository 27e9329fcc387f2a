"""The state of a simulated cluster, and the rules for changing it."""
