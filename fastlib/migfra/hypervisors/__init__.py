"""The hypervisors that come along: one file or folder each, found by their entry points."""
