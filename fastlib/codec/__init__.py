"""YAML text to any typed struct and back, exactly and fast. Knows nothing of what is said."""

from .annotations import AllOrNone, Needs, OneOf, Rule, Wire
from .errors import (
    DeclarationError,
    FastlibError,
    LimitError,
    MessageError,
    ParseError,
    Problem,
    Report,
    UnknownKeyWarning,
    ValidationError,
)
from .limits import DEFAULT_LIMITS, Limits
from .records import shape_of

__all__ = [
    "DEFAULT_LIMITS",
    "AllOrNone",
    "DeclarationError",
    "FastlibError",
    "LimitError",
    "Limits",
    "MessageError",
    "Needs",
    "OneOf",
    "ParseError",
    "Problem",
    "Report",
    "Rule",
    "UnknownKeyWarning",
    "ValidationError",
    "Wire",
    "shape_of",
]
