"""Which messages are fastlib's own, and how many examples of them a test tries."""

from typing import Any

from hypothesis import settings

from fastlib import Message, TimeMeasurement
from fastlib.message.registry import REGISTRY


def examples(everyday: int, nightly: int) -> settings:
    """How many examples a test tries, by the profile that `--long` chooses."""
    return settings(
        max_examples=nightly if settings.get_current_profile_name() == "nightly" else everyday
    )


MESSAGES: list[type[Any]] = [
    cls
    for (module, _), cls in REGISTRY.messages.items()
    if module.startswith("fastlib.message.") and cls is not Message
] + [TimeMeasurement]
"""Every message of fastlib, which can be written and read by itself."""


def name_of(cls: type[Any]) -> str:
    """`task.Task`, `mmbwmon.Stop`: the name of a parametrised test."""
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"
