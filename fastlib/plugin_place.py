"""Where in a plug-in an error comes from."""

import os
import sysconfig
from pathlib import Path
from traceback import walk_tb
from types import CodeType
from typing import Final

_OWN: Final = f"{Path(__file__).parent}{os.sep}"
"""The folder of fastlib, with the separator."""
_LIBRARY: Final = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "platstdlib"))


def is_foreign(filename: str) -> bool:
    """Return whether a file is neither of fastlib nor of Python itself."""
    if filename.startswith(("<", _OWN)):
        return False
    return "site-packages" in filename or not filename.startswith(_LIBRARY)


def place_of(error: BaseException) -> str:
    """Return ` (file:line, in function)` of the innermost line of a plug-in; else nothing.

    It is empty for an error of fastlib itself.
    """
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f" ({error.filename}:{error.lineno})"
    place = ""
    for frame, line in walk_tb(error.__traceback__):
        if is_foreign(frame.f_code.co_filename):
            place = f" ({place_in(frame.f_code, line)})"
    return place


def place_in(code: CodeType, line: int) -> str:
    """Return `file:line, in function`."""
    where = f"{code.co_filename}:{line}"
    return where if code.co_name == "<module>" else f"{where}, in {code.co_name}"
