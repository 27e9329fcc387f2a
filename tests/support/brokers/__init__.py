"""The brokers of the matrix: the start of each, and its checks."""
