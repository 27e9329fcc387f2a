"""Measure the speed and the memory of fastlib beside its peers: `python -m benchmarks`."""
