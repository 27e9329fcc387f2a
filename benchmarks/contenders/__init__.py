"""The compared libraries, one a file. Libraries that are not installed are reported as missing."""

import importlib
from typing import NamedTuple

from fastlib.codec import is_compiled
from fastlib.extras import install_command

from .base import Contender, Kind

MODULES = {
    "fastlib": "fastlib",
    "fastlib, pure": "pure",
    "PyYAML+msgspec": "pyyaml",
    "rapidyaml": "rapidyaml",
}
"""The module of each contender, in the order of the tables."""


class Missing(NamedTuple):
    """A contender that is not installed."""

    name: str
    reason: str
    install: str


def find_contenders() -> tuple[list[Contender], list[Missing]]:
    """Return the contenders that can be imported, and those that cannot."""
    found: list[Contender] = []
    missing: list[Missing] = []
    for name, module in MODULES.items():
        if module == "pure" and not is_compiled():
            continue  # fastlib is that already
        try:
            contender: Contender = importlib.import_module(f"{__name__}.{module}").CONTENDER
        except ImportError as error:
            missing.append(Missing(name, str(error), install_command("bench")))
        else:
            found.append(contender)
    return found, missing


__all__ = ["MODULES", "Contender", "Kind", "Missing", "find_contenders"]
