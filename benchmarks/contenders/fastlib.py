"""fastlib itself."""

from fastlib import ResultContainer, TaskContainer

from .base import Contender

CONTENDER = Contender(
    name="fastlib",
    how="from_yaml, to_yaml",
    packages=("fastlib",),
    load={"task": TaskContainer.from_yaml, "result": ResultContainer.from_yaml},
    plain=lambda message: message.emit(),
    emit=lambda message: message.to_yaml(),
)
