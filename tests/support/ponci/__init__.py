"""Helpers of ponci's tests: cgroups, work in them, and a guest with its own kernel."""
