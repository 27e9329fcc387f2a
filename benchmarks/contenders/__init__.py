"""The libraries that are compared, one a file; those not installed are told, not needed."""

import importlib
from typing import NamedTuple

from .base import Contender, Kind

MODULES = {
    "fastlib": "fastlib",
    "PyYAML+msgspec": "pyyaml",
    "mashumaro": "mashumaro",
    "pydantic": "pydantic",
    "ruamel.yaml": "ruamel",
    "rapidyaml": "rapidyaml",
    "rapidyaml*": "rapidyaml_reused",
}
"""Where each contender stands, in the order of the tables."""

INSTALL = "pip install 'fastlib[bench]'"


class Missing(NamedTuple):
    """A contender that cannot take part."""

    name: str
    reason: str
    install: str = INSTALL


def find_contenders() -> tuple[list[Contender], list[Missing]]:
    """The contenders that can be imported here, and those that cannot."""
    found: list[Contender] = []
    missing: list[Missing] = []
    for name, module in MODULES.items():
        try:
            contender: Contender = importlib.import_module(f"{__name__}.{module}").CONTENDER
        except ImportError as error:
            missing.append(Missing(name, str(error)))
        else:
            found.append(contender)
    return found, missing


__all__ = ["INSTALL", "MODULES", "Contender", "Kind", "Missing", "find_contenders"]
