"""For tests of programs that speak the protocol.

`fastlib.testing.strategies` has Hypothesis strategies of every message (extra `testing`).
"""
