"""Errors of `fastlib.testing`."""

from fastlib.codec.errors import FastlibError


class MissingHypothesisError(FastlibError, ImportError):
    """Hypothesis is not installed; the text has the line that does it."""
