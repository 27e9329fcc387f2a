"""ruamel.yaml's safe loader, by its C extension where it is installed, into msgspec structs."""

import io
from typing import Any

import msgspec
import ruamel.yaml

from .base import Contender
from .structs import ResultContainer, TaskContainer, to_result, to_task

_yaml = ruamel.yaml.YAML(typ="safe")
_yaml.default_flow_style = False

WITH_C: bool = ruamel.yaml.__with_libyaml__


def first_document(text: bytes) -> Any:
    """The tree of the first document; `load` refuses the second one that `---` opens."""
    documents = _yaml.load_all(text)
    try:
        return next(documents)
    finally:
        documents.close()


def load_task(text: bytes) -> TaskContainer:
    return to_task(first_document(text))


def load_result(text: bytes) -> ResultContainer:
    return to_result(first_document(text))


def emit(message: Any) -> str:
    stream = io.StringIO()
    _yaml.dump(msgspec.to_builtins(message), stream)
    return stream.getvalue()


CONTENDER = Contender(
    name="ruamel.yaml",
    how='YAML(typ="safe"), msgspec.convert and to_builtins; '
    + ("by its C extension" if WITH_C else "in Python; for C: pip install ruamel.yaml.clib"),
    packages=("ruamel.yaml", *(["ruamel.yaml.clib"] if WITH_C else [])),
    load={"task": load_task, "result": load_result},
    plain=msgspec.to_builtins,
    emit=emit,
)
