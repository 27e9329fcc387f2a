"""The brokers of the matrix: how each is started, and what is checked of it."""
