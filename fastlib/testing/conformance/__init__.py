"""Test whether another implementation understands every message like fastlib.

`run` starts a program that reads requests and answers them, each one a line of JSON. It sends
generated messages and the golden vectors, and reports the differences. `serve` answers such
requests with fastlib. docs/how-to/conformance.md describes the protocol.
"""

from .allowed import AllowedError, read_allowed
from .output import as_json, as_junit, as_text
from .peer import CannotStartError
from .protocol import PeerAnswer, PeerRequest
from .report import ConformanceReport, Difference
from .runner import Progress, run
from .server import serve

__all__ = [
    "AllowedError",
    "CannotStartError",
    "ConformanceReport",
    "Difference",
    "PeerAnswer",
    "PeerRequest",
    "Progress",
    "as_json",
    "as_junit",
    "as_text",
    "read_allowed",
    "run",
    "serve",
]
