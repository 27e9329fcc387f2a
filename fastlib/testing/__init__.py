"""For tests of programs that speak the protocol, and for proofs that two of them understand each
other.

`assert_round_trip` and `isolated_registry` stand here. `fastlib.testing.strategies` has Hypothesis
strategies of every message (extra `testing`). `fastlib.testing.conformance` tests another
implementation.
"""

from .isolation import IsolatedRegistry, isolated_registry
from .round_trip import assert_round_trip

__all__ = ["IsolatedRegistry", "assert_round_trip", "isolated_registry"]
