"""Helpers of ponci's tests: cgroups, work in them, and a guest with a kernel of its own."""
