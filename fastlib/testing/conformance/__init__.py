"""Whether another implementation understands every message as fastlib does.

`run` starts a program that reads requests and answers them, a line of JSON each, sends it generated
messages and the golden vectors, and reports in what it differs; `serve` is our own side of it.
docs/how-to/conformance.md has the protocol.
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
