"""Helpers of the schemas' tests."""
