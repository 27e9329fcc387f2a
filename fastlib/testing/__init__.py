"""Tools to test programs that speak the protocol, and to prove that two of them are compatible.

This module has `assert_round_trip` and `isolated_registry`. `fastlib.testing.strategies` has
Hypothesis strategies of every message (extra `testing`). `fastlib.testing.conformance` tests
another implementation.
"""

from .isolation import IsolatedRegistry, isolated_registry
from .round_trip import assert_round_trip

__all__ = ["IsolatedRegistry", "assert_round_trip", "isolated_registry"]
