"""How fast fastlib is, and how much memory it needs, beside its peers: `python -m benchmarks`."""
