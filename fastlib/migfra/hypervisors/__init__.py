"""The hypervisors of fastlib, one file or folder each."""
