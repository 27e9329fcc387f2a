"""Start Python so that it runs no code of the current directory."""

from typing import Final

ISOLATED: Final = "-I"
"""Python searches neither the current directory, nor PYTHONPATH, nor the user's own packages."""


def isolated_command(python: str, *arguments: str) -> list[str]:
    """Return the command that runs an interpreter with packages of its own environment only.

    `python -m fastlib` without it would import any `yaml.py` of the current directory, which may be
    a checkout of somebody's proposed change.
    """
    return [python, ISOLATED, *arguments]
