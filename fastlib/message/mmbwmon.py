"""Messages between the scheduler and the memory bandwidth monitor.

Schedulers and agents in use send a title, which fast-lib neither writes nor reads. fastlib reads
it, because it gives the type, and does not write it.

See docs/reference/protocol.md, "Memory bandwidth monitor".
"""

from collections.abc import Sequence
from typing import Annotated, ClassVar

from fastlib.codec.annotations import Wire

from . import topics
from .base import Message
from .numbers import U64
from .topics import Topic


class Request(Message, task="mmbwmon request", write_title=False):
    """Measure the bandwidth that is still available to some cores."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.MMBWMON_REQUEST,)

    cores: Annotated[Sequence[U64], Wire("Numbers of the cores.")]
    """Numbers of the cores."""


class Reply(Message, task="mmbwmon response", write_title=False):
    """The bandwidth that is still available to some cores."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.MMBWMON_RESPONSE,)

    cores: Annotated[Sequence[U64], Wire("Numbers of the cores.")]
    """Numbers of the cores."""
    result: Annotated[
        float, Wire("Available part of the bandwidth, 0.33 to 1.", aliases=("response",))
    ]
    """Available part of the bandwidth, 0.33 to 1."""


class Stop(Message, task="mmbwmon stop", write_title=False):
    """Stop the processes of a cgroup."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.MMBWMON_REQUEST,)

    cgroup: Annotated[str, Wire("Path of the cgroup.")]
    """Path of the cgroup."""


class Restart(Message, task="mmbwmon restart", write_title=False):
    """Resume the processes of a cgroup."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.MMBWMON_REQUEST,)

    cgroup: Annotated[str, Wire("Path of the cgroup.")]
    """Path of the cgroup."""


class Ack(Message, task="mmbwmon ack", write_title=False):
    """Confirm that a request was executed: an empty document."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.MMBWMON_RESPONSE,)


class SystemInfo(Message):
    """The monitor describes its host."""

    __topics__: ClassVar[tuple[Topic, ...]] = (topics.MMBWMON_RESPONSE,)

    threads: Annotated[U64, Wire("Number of hardware threads.")]
    """Number of hardware threads."""
    smt: Annotated[U64, Wire("Hardware threads of one core.")]
    """Hardware threads of one core."""
    numa: Annotated[U64, Wire("Number of NUMA nodes.")]
    """Number of NUMA nodes."""
    bandwidth: Annotated[Sequence[float], Wire("Bandwidth by number of cores.", unit="bytes/s")]
    """Bandwidth by number of cores. Unit: bytes/s."""
