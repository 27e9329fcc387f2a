"""Messages of other packages: modules that declare them, named by entry points.

A distribution names such a module in its `pyproject.toml`::

    [project.entry-points."fastlib.messages"]
    snapshots = "acme.snapshots"

`load_extensions` imports it, and from then on its tasks are like fastlib's own.
"""

import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from .registry import REGISTRY

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

GROUP = "fastlib.messages"
"""The group of entry points whose modules declare messages."""


class BrokenExtension(msgspec.Struct, frozen=True, kw_only=True):
    """An entry point that could not be loaded."""

    distribution: str
    """Name of the distribution that has it, with its version where that is known."""
    entry_point: str
    """The entry point as it is declared, such as `snapshots = acme.snapshots`."""
    reason: str
    """What went wrong, on one line."""

    def __str__(self) -> str:
        return f"{self.distribution}: the extension '{self.entry_point}' is broken: {self.reason}"


def load_extensions() -> list[BrokenExtension]:
    """Imports every module that is named for messages, each once, and says which are broken.

    Never raises for an extension, whatever its import raises.
    """
    broken: list[BrokenExtension] = []
    loaded = REGISTRY.loaded_entry_points
    for title, distribution in _distributions(GROUP):
        try:
            points = [point for point in distribution.entry_points if point.group == GROUP]
        except Exception as error:  # a file that is no list of entry points
            failed = BrokenExtension(
                distribution=title, entry_point="entry_points.txt", reason=_reason(error)
            )
            broken.append(failed)
            continue
        for point in points:
            declared = f"{point.name} = {point.value}"
            if (title, declared) not in loaded:
                reason = _load(point)
                loaded[title, declared] = (
                    BrokenExtension(distribution=title, entry_point=declared, reason=reason)
                    if reason
                    else None
                )
            known = loaded[title, declared]
            if known is not None:
                broken.append(known)
    return broken


_VALUE = re.compile(r"\s*[\w.]+\s*(:\s*[\w.]+\s*)?(\[.*\]\s*)?")


def _load(point: "EntryPoint") -> str | None:
    """Imports what an entry point names; why that failed, if it did."""
    if _VALUE.fullmatch(point.value) is None:
        return "expected the name of a module"
    try:
        point.load()
    except (Exception, SystemExit) as error:  # of somebody's module
        return _reason(error)
    return None


def _reason(error: BaseException) -> str:
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


# --- which distributions ------------------------------------------------------------------------


def _distributions(group: str) -> Iterator[tuple[str, "Distribution"]]:
    """The installed distributions with entry points of a group, and what each is called.

    Of those of one name, the first on the path counts. `importlib.metadata` takes long to import,
    and most often nothing is found, so the usual places are searched without it.
    """
    found = _search(group.encode())
    if found == []:
        return
    from importlib.metadata import Distribution, distributions

    if found is not None:
        for folder in found:
            distribution: Distribution = Distribution.at(folder)
            stem, _ = os.path.splitext(os.path.basename(folder))
            yield _title(distribution) or stem, distribution
        return
    seen: set[str] = set()
    for distribution in distributions():
        title = _title(distribution) or "a distribution without a name"
        try:
            mentioned = group in (distribution.read_text("entry_points.txt") or "")
        except Exception:  # told where they are read
            mentioned = True
        if mentioned and title not in seen:
            yield title, distribution
        seen.add(title)


def _search(mention: bytes) -> list[str] | None:
    """The metadata folders whose entry points have a mention of something.

    None where distributions may be elsewhere: in archives and eggs, or at a finder of its own.
    """
    for finder in sys.meta_path:
        name = getattr(finder, "__name__", "")
        if name != "PathFinder" and hasattr(finder, "find_distributions"):
            return None
    found: list[str] = []
    seen: set[str] = set()
    for place in dict.fromkeys(path or os.curdir for path in sys.path):
        try:
            names = sorted(os.listdir(place))
        except OSError:
            if os.path.isfile(place):
                return None
            continue
        if place.endswith(".egg"):
            return None
        for name in names:
            stem, extension = os.path.splitext(name)
            if extension not in (".dist-info", ".egg-info"):
                continue
            project = _normal(stem.partition("-")[0])
            if project in seen:
                continue
            seen.add(project)
            folder = os.path.join(place, name)
            if mention in _bytes(os.path.join(folder, "entry_points.txt")):
                found.append(folder)
    return found


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:  # most have none
        return b""


def _normal(name: str) -> str:
    """A distribution's name as names are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _title(distribution: "Distribution") -> str | None:
    """Name and version, if they can be read."""
    try:
        metadata = distribution.metadata
        return f"{metadata['Name']} {metadata['Version']}" if metadata["Name"] else None
    except Exception:  # a file that is missing or no text
        return None
