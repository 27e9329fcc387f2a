"""Read the names by which images name their backing files. Pure.

QEMU accepts a path, `file:` with a path, the URI of a network disk, and `json:` with options.
libvirt reports the name as the image has it.
"""

import json
import posixpath
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

_JSON: Final = "json:"
_FORMATS: Final = ("raw", "qcow2")


class BackingFile(NamedTuple):
    """A backing file on the host of its image."""

    path: str
    format: str | None


def local_path(name: str, image: str) -> str | None:
    """Return the path of a backing file. None if it is not a plain file."""
    if name.startswith(_JSON):
        return None
    name = name.removeprefix("file:")
    if ":" in name.partition("/")[0]:
        return None
    return posixpath.join(posixpath.dirname(image), name)


def backing_file(name: str, image: str, format: str | None) -> BackingFile | None:
    """Return the file that a name leads to, also by `json:`. None if that is not certain.

    `format` is the format that the image states. Options in `json:` can state another one.
    """
    if not name.startswith(_JSON):
        path = local_path(name, image)
        return None if path is None else BackingFile(path, format)
    options = _options(name)
    paths = list(_file_names(options))
    if not isinstance(options, dict) or len(paths) != 1 or not paths[0].startswith("/"):
        return None
    drivers = list(_drivers(options))
    if any(driver not in (*_FORMATS, "file") for driver in drivers):
        return None
    formats = [driver for driver in drivers if driver in _FORMATS]
    if len(formats) > 1:
        return None
    return BackingFile(paths[0], formats[0] if formats else format)


def possible_files(name: str, image: str) -> tuple[str, ...]:
    """Return the paths of all files that a name may lead to."""
    if not name.startswith(_JSON):
        path = local_path(name, image)
        return () if path is None else (path,)
    folder = posixpath.dirname(image)
    return tuple(posixpath.join(folder, path) for path in _file_names(_options(name)))


def _options(name: str) -> Any:
    try:
        return json.loads(name.removeprefix(_JSON))
    except (ValueError, RecursionError):
        return None


def _file_names(options: Any) -> Iterator[str]:
    return _values(options, "filename")


def _drivers(options: Any) -> Iterator[str]:
    return _values(options, "driver")


def _values(options: Any, wanted: str) -> Iterator[str]:
    """Yield the texts of a key at all levels. Options may be nested, or have names with dots."""
    if isinstance(options, list):
        for each in options:
            yield from _values(each, wanted)
    if isinstance(options, dict):
        for key, value in options.items():
            if isinstance(value, str) and key.rpartition(".")[2] == wanted:
                yield value
            yield from _values(value, wanted)
