"""The constructor of a struct for the codec, without the explanation of wrong arguments.

`constructor_arguments` explains them for users. That costs half a microsecond for each struct, and
the codec knows its arguments.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

_call: Final[Any] = msgspec.StructMeta.__call__


def constructor_of(cls: type[Any]) -> Callable[..., Any]:
    """Return the constructor of a struct. A wrong argument is msgspec's TypeError."""
    constructor: Callable[..., Any] = _call.__get__(cls)
    return constructor
