"""Migrations that are computed round by round, swaps, and planned faults."""
