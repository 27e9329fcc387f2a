"""Folders and archives on the path for a while, with the packages in them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from fastlib.testing import isolated_registry


@contextmanager
def on_path(*path: Path) -> Iterator[None]:
    """Put folders and archives first on the path. Forget modules that are imported from them."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch, isolated_registry():
        for folder in reversed(path):
            patch.syspath_prepend(folder)
        try:
            yield
        finally:
            for name in set(sys.modules) - before:
                if _places(sys.modules[name], path):
                    del sys.modules[name]


def _places(module: ModuleType, path: tuple[Path, ...]) -> list[Path]:
    """Return the files and folders of a module in the folders of the path.

    A namespace package has no file.
    """
    files = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    return [
        Path(file)
        for file in files
        if file is not None and any(Path(file).is_relative_to(folder) for folder in path)
    ]
