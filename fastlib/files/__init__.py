"""The files that an operator needs beside the program: the unit, the access list, the schemas.

A wheel contains them. `fastlib files DIR` copies them into a folder.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.resources import files as resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

from fastlib.codec.errors import FastlibError

KINDS: Final = {
    "migfra.service": "the unit of systemd",
    "migfra.yaml": "a configuration of the daemon to begin with",
    "mosquitto.acl": "the access list for mosquitto",
    "mosquitto.conf": "settings for mosquitto",
    "migfra-deploy": "the program that installs migfra on one host",
    "schemas": "JSON Schemas and the AsyncAPI document of the messages",
}
"""The files and the folder of files that a wheel contains, with what each is for."""

PROGRAMS: Final = {"migfra-deploy"}
"""Files that can be executed."""


class FilesError(FastlibError, OSError):
    """The files cannot be copied; the text says which one and what to do."""


def file_names() -> list[str]:
    """Return the paths of all files, relative to the folder that they are copied into."""
    return [name for name, _ in _files()]


def read_file(name: str) -> bytes:
    """Return what a file has, by a name of `file_names()`. Raises KeyError for another name."""
    return dict(_files())[name].read_bytes()


def copy_files(folder: str | os.PathLike[str], *, force: bool = False) -> list[Path]:
    """Copy all files into a folder, which is made if it is missing. Return the files written.

    A file that has the same content already is not written again. If the folder has a file with
    another content, nothing is written, unless `force` is true. Raises FilesError.
    """
    target = Path(folder)
    changed: list[tuple[Path, str, bytes]] = []
    for name, source in _files():
        data = source.read_bytes()
        path = target / name
        try:
            if path.read_bytes() != data:
                changed.append((path, name, data))
        except FileNotFoundError:
            changed.append((path, name, data))
        except OSError as error:
            raise FilesError(f"{path} cannot be read: {error.strerror}") from None
    others = [str(path) for path, _, _ in changed if os.path.lexists(path)]
    if others and not force:
        raise FilesError(
            f"nothing is written, because of files with another content: {', '.join(others)}; "
            "choose another folder, or overwrite them with --force"
        )
    for path, name, data in changed:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, data, 0o755 if name in PROGRAMS else 0o644)
        except OSError as error:
            raise FilesError(f"{path} cannot be written: {error.strerror}") from None
    return [path for path, _, _ in changed]


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replace a file at once. No reader gets a part of it, and no symbolic link is followed."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _files() -> Iterator[tuple[str, Traversable]]:
    data = resources(__name__) / "data"
    for name in KINDS:
        yield from _below(name, data / name)


def _below(name: str, place: Traversable) -> Iterator[tuple[str, Traversable]]:
    if not place.is_dir():
        yield name, place
        return
    for child in sorted(place.iterdir(), key=lambda child: child.name):
        yield from _below(f"{name}/{child.name}", child)
