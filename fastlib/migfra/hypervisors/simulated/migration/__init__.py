"""Migrations that are computed round by round, and swaps."""
