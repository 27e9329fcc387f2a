"""The packages of the extra `compat`, imported where they are needed."""

from types import ModuleType

from fastlib.codec.errors import FastlibError


class MissingExtraError(FastlibError, ImportError):
    """A package is not installed; says the line that installs it."""


def need(name: str) -> ModuleType:
    """A package of the extra `compat`. Raises MissingExtraError."""
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        package = name.replace("_", "-")
        raise MissingExtraError(
            f"comparing schemas needs {package}; install it by: pip install 'fastlib[compat]'"
        ) from None
