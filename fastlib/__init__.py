"""Typed messages of the FaST cluster, which schedulers and migration daemons exchange.

This package has the messages between schedulers and the daemon, `load`, `validate`, and the errors
of messages. It exports all that `fastlib.message` exports. The messages of agents, applications,
the bandwidth monitor and pscom are in `fastlib.message.agent`, `.application`, `.mmbwmon` and
`.pscom`, topics in `fastlib.message.topics`. Presence and progress are in `fastlib.message.node`.
"""

from .codec import (
    ArgumentError,
    DeclarationError,
    FastlibError,
    LimitError,
    Limits,
    MessageError,
    ParseError,
    Problem,
    Report,
    UnknownKeyWarning,
    ValidationError,
)
from .extras import MissingExtraError
from .message import *  # noqa: F403 - its list of exports is the only one
from .message import __all__ as _messages

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "DeclarationError",
    "FastlibError",
    "LimitError",
    "Limits",
    "MessageError",
    "MissingExtraError",
    "ParseError",
    "Problem",
    "Report",
    "UnknownKeyWarning",
    "ValidationError",
    "__version__",
]
__all__ += _messages
