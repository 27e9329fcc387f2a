"""Find out whether the fast reader is compiled, and whether from the installed sources.

A wheel that was built with `FASTLIB_COMPILE=yes` has the modules of the fast reader twice: as
Python, and compiled from it by mypyc. Python then imports the compiled ones. They return the same
values and raise the same errors.

An installation over another one can leave compiled modules of older sources behind, for example
`pip install --ignore-installed` or a wheel that is unpacked into the same folder. Python would
import them in place of the newer sources. So they carry a checksum of their sources.
"""

import os
from importlib.machinery import EXTENSION_SUFFIXES

MODULES = ("fast_reader", "fast_values")
"""The modules that can be compiled."""


def is_compiled() -> bool:
    """Return whether this installation has a compiled fast reader that is used."""
    return bool(_compiled_files()) and not outdated_files()


def outdated_files() -> list[str]:
    """Return the paths of compiled modules whose sources are not those beside them."""
    paths = _compiled_files()
    if not paths:
        return []
    try:
        name = library_name(os.path.dirname(__file__)).encode()
    except FileNotFoundError:  # a package without sources
        return []
    return [path for path in paths if name not in _content(path)]


def library_name(folder: str) -> str:
    """Return the name of the library of the modules that are compiled from a folder's sources.

    Each compiled module contains this name, because it imports that library.
    """
    import zlib  # a pure package does not need it

    checksum = 0
    for module in MODULES:
        checksum = zlib.crc32(_content(os.path.join(folder, f"{module}.py")), checksum)
    return f"fastlib_codec_{checksum:08x}"


def _compiled_files() -> list[str]:
    folder = os.path.dirname(__file__)
    paths = [os.path.join(folder, name + end) for name in MODULES for end in EXTENSION_SUFFIXES]
    return [path for path in paths if os.path.isfile(path)]


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
