"""A deterministic simulation of schedulers, broker and daemons under a virtual clock."""
