"""Helpers of the client's tests."""
