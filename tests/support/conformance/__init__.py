"""Peers for the tests of conformance: a correct one, and one with planted faults."""
