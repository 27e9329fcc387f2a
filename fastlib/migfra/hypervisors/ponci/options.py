"""The keys beside `type: ponci` in the configuration."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from fastlib.codec.annotations import Rule, Wire
from fastlib.codec.load_context import INVALID
from fastlib.message import Message
from fastlib.migfra.config.sections import Positive, Seconds
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.names import check_name

from .names import check_group


class IsGroup(Rule):
    """A path of a cgroup that cannot leave the hierarchy."""

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute
        self.attributes = (attribute,)

    def broken(self, get: Callable[[str], Any]) -> tuple[str | None, str] | None:
        value = get(self.attribute)
        if value is None or value is INVALID:
            return None
        try:
            for part in parts(value):
                check_group(check_name(part, "a cgroup"))
        except HypervisorError as error:
            return self.attribute, str(error).replace("{", "{{").replace("}", "}}")
        return None


def parts(parent: str) -> list[str]:
    """The names in a path; none for the root, `/`."""
    inner = parent.strip("/")
    if not inner and parent != "/":
        return [inner]  # which is no name
    return inner.split("/") if inner else []


class PonciOptions(Message):
    """Where domains are, and how long things may take."""

    rules: ClassVar[tuple[Rule, ...]] = (
        IsGroup("parent"),
        Positive("freeze_timeout"),
        Positive("stop_timeout"),
    )

    parent: Annotated[
        str,
        Wire(
            "The cgroup that has the domains, made if it is missing; each group in it is one. "
            "'/' is the root, of which all groups of the system are domains then."
        ),
    ] = "migfra"
    freeze_timeout: Annotated[
        Seconds,
        Wire("How long processes may take to freeze; then they are thawed again.", unit="s"),
    ] = 10.0
    stop_timeout: Annotated[
        Seconds, Wire("How long processes that were killed may take to be gone.", unit="s")
    ] = 60.0
