"""Compute migrations round by round, and swaps."""
