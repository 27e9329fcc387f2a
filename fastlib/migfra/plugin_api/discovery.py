"""Find hypervisors by name: those of fastlib, and those of other packages.

A package offers one as an entry point of the group `fastlib.hypervisors`::

    [project.entry-points."fastlib.hypervisors"]
    my = "my_package:MyHypervisor"
"""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from fastlib.codec.derivation import shape_of
from fastlib.codec.load_context import nearest_word
from fastlib.migfra.errors import PluginError
from fastlib.plugin_place import place_of

from .config_section import ConfigSection
from .hypervisor import Hypervisor
from .method_checks import method_problems

GROUP: Final = "fastlib.hypervisors"

BUILT_IN: Final[Mapping[str, str]] = {
    "dummy": "fastlib.migfra.hypervisors.dummy:DummyHypervisor",
    "libvirt": "fastlib.migfra.hypervisors.libvirt:LibvirtHypervisor",
    "ponci": "fastlib.migfra.hypervisors.ponci:PonciHypervisor",
    "simulated": "fastlib.migfra.hypervisors.simulated:SimulatedHypervisor",
}
"""The hypervisors of fastlib, found without a search of the installed packages."""


@cache
def _installed() -> Mapping[str, tuple[EntryPoint, ...]]:
    """Return the entry points of the group by name.

    The next run finds packages that are installed later.
    """
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=GROUP):
        known = found.get(point.name, ())
        if all(point.value != other.value for other in known):
            found[point.name] = (*known, point)
    return found


def names() -> list[str]:
    """Return the names of all hypervisors, loadable or not."""
    return sorted({*BUILT_IN, *_installed()})


def load(name: str) -> type[Hypervisor]:
    """Return the hypervisor of a name. Raises PluginError, which names the faulty distribution."""
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        return _checked(name, getattr(import_module(module), attribute), "fastlib")
    points = _installed().get(name, ())
    if not points:
        known = names()
        near = nearest_word(name, known)
        hint = f" (did you mean {near!r}?)" if near else ""
        raise PluginError(
            f"there is no hypervisor {name!r}{hint}; installed are {', '.join(known)}; others come "
            f"with packages that have an entry point in {GROUP}"
        )
    if len(points) > 1:
        owners = " and ".join(sorted(map(_owner, points)))
        raise PluginError(f"the hypervisor {name!r} is offered by {owners}; uninstall all but one")
    (point,) = points
    try:
        found = point.load()
    except (Exception, SystemExit) as error:  # any error of a plug-in; PluginError names it
        raise PluginError(
            f"the hypervisor {name!r} of {_owner(point)} cannot be loaded from {point.value}: "
            f"{type(error).__name__}: {error}{place_of(error)}"
        ) from error
    return _checked(name, found, _owner(point))


def _owner(point: EntryPoint) -> str:
    """Return the distribution of an entry point."""
    if point.dist is None:
        return f"an unknown distribution ({point.value})"
    return f"the distribution {point.dist.name} {point.dist.version}"


def _checked(name: str, found: Any, owner: str) -> type[Hypervisor]:
    def broken(why: str) -> PluginError:
        return PluginError(f"the hypervisor {name!r} of {owner} is broken: {why}")

    if not isinstance(found, type) or not issubclass(found, Hypervisor):
        raise broken(f"{found!r} must be a subclass of fastlib.migfra.Hypervisor")
    if found.name != name:
        raise broken(
            f"its class must have the name of its entry point: write `name = {name!r}`; it has "
            f"{found.name!r}"
        )
    options = found.Options
    if not isinstance(options, type) or not issubclass(options, ConfigSection):
        raise broken(
            f"its Options, {options!r}, must be a subclass of fastlib.migfra.ConfigSection"
        )
    try:
        shape_of(options)
    except Exception as error:
        raise broken(f"its Options cannot be read: {error}") from error
    problems = method_problems(found)
    if problems:
        raise broken("; ".join(problems))
    return found
