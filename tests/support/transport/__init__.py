"""Helpers of the transport's tests."""
