"""fastlib with its fast reader in pure Python, beside the compiled one in the same process."""

from typing import Any

from benchmarks.builds import pure_fast_reader
from fastlib import ResultContainer, TaskContainer
from fastlib.codec import DEFAULT_LIMITS, shape_of
from fastlib.codec.text import decode

from .base import Contender

_read_fast = pure_fast_reader().read_fast


def _load(container: type[Any], text: bytes) -> Any:
    """Do what `fastlib.codec.dispatch.read` does, with the other reader."""
    decoded = decode(text, DEFAULT_LIMITS, container.__name__)
    return _read_fast(shape_of(container), decoded, DEFAULT_LIMITS)


CONTENDER = Contender(
    name="fastlib, pure",
    how="the same with the fast reader in pure Python",
    packages=("fastlib",),
    load={
        "task": lambda text: _load(TaskContainer, text),
        "result": lambda text: _load(ResultContainer, text),
    },
    plain=lambda message: message.emit(),
    emit=None,
)
