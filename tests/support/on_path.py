"""Folders and archives on the path for a while, with the packages in them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastlib.testing import isolated_registry


@contextmanager
def on_path(*path: Path) -> Iterator[None]:
    """Have folders and archives first on the path; what is imported from them is forgotten."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch, isolated_registry():
        for folder in reversed(path):
            patch.syspath_prepend(folder)
        yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and any(Path(file).is_relative_to(folder) for folder in path):
            del sys.modules[name]
