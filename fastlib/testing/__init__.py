"""For tests of programs that speak the protocol, and for proofs that two of them understand each
other.

`assert_round_trip` stands here; `fastlib.testing.strategies` has Hypothesis strategies of every
message (extra `testing`), `fastlib.testing.conformance` asks another implementation.
"""

from .round_trip import assert_round_trip

__all__ = ["assert_round_trip"]
