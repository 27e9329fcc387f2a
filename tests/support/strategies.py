"""Which messages are fastlib's own, and how many examples of them a test tries."""

from typing import Any

from hypothesis import settings

from fastlib import Message, TimeMeasurement


def examples(everyday: int, nightly: int) -> settings:
    """How many examples a test tries, by the profile that `--long` chooses."""
    return settings(
        max_examples=nightly if settings.get_current_profile_name() == "nightly" else everyday
    )


def _walk(cls: type[Message]) -> list[type[Message]]:
    return [
        found
        for below in cls.__subclasses__()
        for found in (below, *_walk(below))
        if found.__module__.startswith("fastlib.message.")
    ]


MESSAGES: list[type[Any]] = [*_walk(Message), TimeMeasurement]
"""Every message of fastlib, which can be written and read by itself."""


def name_of(cls: type[Any]) -> str:
    """`task.Task`, `mmbwmon.Stop`: the name of a parametrised test."""
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
