"""Helpers of the daemon's tests."""
