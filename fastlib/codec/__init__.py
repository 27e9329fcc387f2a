"""Reads and writes typed structs as YAML, exactly and fast. It knows no message of the protocol."""

from .annotations import Wire
from .compiled import is_compiled
from .derivation import shape_of
from .errors import (
    ArgumentError,
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
from .rules import (
    AllOrNone,
    AtMost,
    Between,
    Exclusive,
    Needs,
    NotEmpty,
    OneOf,
    Positive,
    Requires,
    Rule,
    ValueRule,
)

__all__ = [
    "DEFAULT_LIMITS",
    "AllOrNone",
    "ArgumentError",
    "AtMost",
    "Between",
    "DeclarationError",
    "Exclusive",
    "FastlibError",
    "LimitError",
    "Limits",
    "MessageError",
    "Needs",
    "NotEmpty",
    "OneOf",
    "ParseError",
    "Positive",
    "Problem",
    "Report",
    "Requires",
    "Rule",
    "UnknownKeyWarning",
    "ValidationError",
    "ValueRule",
    "Wire",
    "is_compiled",
    "shape_of",
]
