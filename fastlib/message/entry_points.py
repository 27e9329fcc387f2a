"""Entry points: load modules of other packages that declare messages.

A distribution names such a module in its `pyproject.toml`::

    [project.entry-points."fastlib.messages"]
    snapshots = "acme.snapshots"

`load_entry_points` imports it. Then its tasks work like fastlib's own.
"""

import os
import re
import sys
from _frozen_importlib_external import PathFinder
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from fastlib.codec.lazy_pattern import lazy_pattern

from .registry import REGISTRY

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

GROUP = "fastlib.messages"
"""The group of entry points whose modules declare messages."""


class BrokenEntryPoint(msgspec.Struct, frozen=True, kw_only=True):
    """An entry point that could not be loaded."""

    distribution: str
    """Name of its distribution, with the version if that is known."""
    entry_point: str
    """The declaration of the entry point, such as `snapshots = acme.snapshots`."""
    reason: str
    """The error, on one line."""

    def __str__(self) -> str:
        return f"{self.distribution}: the extension '{self.entry_point}' is broken: {self.reason}"


def load_entry_points() -> list[BrokenEntryPoint]:
    """Import the modules of all entry points, each one once. Return the broken ones.

    An extension whose import raises an error does not raise here.
    """
    broken: list[BrokenEntryPoint] = []
    if not _may_be_declared():
        return broken
    loaded: dict[tuple[str, str], BrokenEntryPoint | None] = REGISTRY.loaded_entry_points
    for title, distribution in _distributions():
        try:
            points = [point for point in distribution.entry_points if point.group == GROUP]
        except Exception as error:  # a file that is not a list of entry points
            failed = BrokenEntryPoint(
                distribution=title, entry_point="entry_points.txt", reason=_reason(error)
            )
            broken.append(failed)
            continue
        for point in points:
            declared = f"{point.name} = {point.value}"
            if (title, declared) not in loaded:
                reason = _load(point)
                loaded[title, declared] = (
                    BrokenEntryPoint(distribution=title, entry_point=declared, reason=reason)
                    if reason
                    else None
                )
            known = loaded[title, declared]
            if known is not None:
                broken.append(known)
    return broken


_VALUE = lazy_pattern(r"\s*[\w.]+\s*(:\s*[\w.]+\s*)?(\[.*\]\s*)?")


def _load(point: "EntryPoint") -> str | None:
    """Import the module of an entry point. Return the reason if that fails, or None."""
    if _VALUE.fullmatch(point.value) is None:
        return "expected the name of a module"
    try:
        point.load()
    except (Exception, SystemExit) as error:  # of a foreign module
        return _reason(error)
    return None


def _reason(error: BaseException) -> str:
    words = " ".join(str(error).split())
    reason = f"{type(error).__name__}: {words}" if words else type(error).__name__
    from fastlib.plugin_place import place_of  # only errors need it

    return reason + place_of(error)


# --- which distributions ------------------------------------------------------------------------


def _may_be_declared() -> bool:
    """Return whether an installed distribution may have such an entry point.

    It searches where `importlib.metadata` searches, but does not import it: that import takes as
    long as the rest of a short command. If `importlib.metadata` would search in other ways, return
    True without a search.
    """
    for finder in sys.meta_path:
        if hasattr(finder, "find_distributions") and finder is not PathFinder:
            return True
    return any(_may_declare(folder) for folder in sys.path)


def _may_declare(folder: str) -> bool:
    """Return whether a distribution in an entry of the path may have such an entry point."""
    if not isinstance(folder, str) or os.path.basename(folder).lower().endswith(".egg"):
        return True
    try:
        names = os.listdir(folder or ".")
    except NotADirectoryError:  # an archive
        return True
    except (OSError, ValueError):
        return False
    for name in names:
        if name.lower().endswith((".dist-info", ".egg-info")):
            try:
                with open(os.path.join(folder, name, "entry_points.txt"), encoding="utf-8") as file:
                    if GROUP in file.read():
                        return True
            except UnicodeDecodeError:  # reading the entry points reports it
                return True
            except OSError:
                continue
    return False


def _distributions() -> Iterator[tuple[str, "Distribution"]]:
    """Yield the name and metadata of each installed distribution that may declare messages.

    If several have the same name, the first one on the path counts.
    """
    from importlib.metadata import distributions  # slow to import, and not every program needs it

    before: list[Distribution] = []
    for distribution in distributions():
        if _mentions_group(distribution):
            name = _name(distribution)
            # Reading a name is slow, and most environments have no distribution that needs it.
            if name is None or name not in map(_name, before):
                yield _title(distribution), distribution
        before.append(distribution)


def _mentions_group(distribution: "Distribution") -> bool:
    try:
        return GROUP in (distribution.read_text("entry_points.txt") or "")
    except UnicodeDecodeError:  # reading the entry points reports it
        return True


def _name(distribution: "Distribution") -> str | None:
    """Return the normalized name, or None if the metadata has none."""
    try:
        name = distribution.metadata["Name"]
    except Exception:  # missing or broken metadata raises many kinds of errors
        return None
    return re.sub(r"[-_.]+", "-", name).lower() if name else None


def _title(distribution: "Distribution") -> str:
    """Return the name and the version for people."""
    if _name(distribution) is None:
        return "a distribution without a name"
    metadata = distribution.metadata
    return f"{metadata['Name']} {metadata['Version']}"
