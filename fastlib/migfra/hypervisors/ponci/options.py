"""The keys beside `type: ponci` in the configuration."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from fastlib.codec.annotations import Wire
from fastlib.codec.rules import Positive, Rule, ValueRule
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.config_section import ConfigSection, Seconds
from fastlib.migfra.virt.names import check_name

from .group_names import check_group


class IsGroup(ValueRule):
    """The path of a cgroup must stay inside the hierarchy."""

    def problem_with(self, value: Any) -> str | None:
        try:
            for part in parts(value):
                check_group(check_name(part, "a cgroup"))
        except HypervisorError as error:
            return str(error)
        return None

    def describe(self, keys: Mapping[str, str]) -> str:
        return f"{keys[self.attribute]} must be the path of a cgroup inside the hierarchy"


def parts(parent: str) -> list[str]:
    """The names in a path; none for the root, `/`."""
    inner = parent.strip("/")
    if not inner and parent != "/":
        return [inner]  # which is no name
    return inner.split("/") if inner else []


class PonciOptions(ConfigSection):
    """The parent group of the domains, and the timeouts."""

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
