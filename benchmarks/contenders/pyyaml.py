"""PyYAML by its C extension, into msgspec structs."""

from typing import Any

import msgspec
import yaml

from .base import Contender
from .structs import ResultContainer, TaskContainer, to_result, to_task

if not yaml.__with_libyaml__:
    raise ImportError("PyYAML is here without its C extension")


def first_document(text: bytes) -> Any:
    """The tree of the first document; `yaml.load` refuses the second one that `---` opens."""
    loader = yaml.CSafeLoader(text)
    try:
        return loader.get_data()
    finally:
        loader.dispose()


def dump(tree: Any) -> str:
    text: str = yaml.dump(tree, Dumper=yaml.CSafeDumper, sort_keys=False)
    return text


def load_task(text: bytes) -> TaskContainer:
    return to_task(first_document(text))


def load_result(text: bytes) -> ResultContainer:
    return to_result(first_document(text))


def emit(message: Any) -> str:
    return dump(msgspec.to_builtins(message))


CONTENDER = Contender(
    name="PyYAML+msgspec",
    how="CSafeLoader, msgspec.convert; msgspec.to_builtins, CSafeDumper",
    packages=("PyYAML", "msgspec"),
    load={"task": load_task, "result": load_result},
    plain=msgspec.to_builtins,
    emit=emit,
)
