"""The tasks: start, stop, migrate, evacuate, and their recovery."""
