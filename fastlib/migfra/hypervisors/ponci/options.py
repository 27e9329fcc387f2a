"""The configuration keys of the hypervisor ponci, besides `type: ponci`."""

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
    """Return the names in a path. The root, `/`, has none."""
    inner = parent.strip("/")
    if not inner and parent != "/":
        return [inner]  # this is not a valid name
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
            "The parent cgroup of the domains; each group in it is a domain. It is made if it is "
            "missing. '/' is the root: then all groups of the system are domains."
        ),
    ] = "migfra"
    freeze_timeout: Annotated[
        Seconds,
        Wire("The longest time until processes have frozen; then they are thawed again.", unit="s"),
    ] = 10.0
    stop_timeout: Annotated[
        Seconds, Wire("The longest time until killed processes have ended.", unit="s")
    ] = 60.0
