"""The package with a compiled fast reader, built from this repository and kept in `.cache`."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from .processes import CACHE, ROOT

SOURCES = (
    *("fastlib", "fastlib_plugins", "schemas", "build_backend"),
    *("setup.py", "MANIFEST.in", "pyproject.toml", "README.md", "LICENSE"),
)
"""What a wheel is built of."""
KEPT = 4
"""Number of builds that are kept. Older ones are removed."""

_BUILD = """
import sys
from fastlib_build import build_wheel
build_wheel(sys.argv[1], {"compile": "yes"})
"""


class BuildError(Exception):
    """The fast reader cannot be compiled here; the text says why."""


def compiled_package() -> Path:
    """Return the folder of the compiled package of these sources, for the front of `sys.path`.

    It is built if it is not there yet, which takes about 20 seconds. Raises BuildError.
    """
    folder = CACHE / "compiled" / f"{sys.implementation.cache_tag}-{_digest()}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="new-") as name:
            built = _build(Path(name))
            if not folder.is_dir():  # else another process was faster
                built.rename(folder)
        _remove_old(folder)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """Return the variables with which Python imports fastlib from a folder, and the rest from here.

    Without PYTHONSAFEPATH, it would find fastlib in the current directory first.
    """
    return {
        "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}",
        "PYTHONSAFEPATH": "1",
        "FASTLIB_TESTED_BUILD": "compiled",  # tests/codec/test_compiled_build.py compares
    }


def _digest() -> str:
    """Return a digest of all sources of the package."""
    digest = hashlib.sha256(sys.version.encode())
    for name in SOURCES:
        top = ROOT / name
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _build(folder: Path) -> Path:
    """Build a wheel of a copy of the sources, and return the folder into which it was unpacked."""
    copy, wheels, unpacked = folder / "source", folder / "wheels", folder / "unpacked"
    copy.mkdir()
    wheels.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, copy / name)
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(wheels)],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy / "build_backend")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise BuildError(done.stdout.strip())
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    return unpacked


def _remove_old(newest: Path) -> None:
    """Remove old builds, and what builds that were killed have left behind."""
    for pattern in ("cpython-*", "new-*"):
        paths = sorted(newest.parent.glob(pattern), key=lambda path: path.stat().st_mtime)
        for path in paths[:-KEPT]:
            if path != newest:
                shutil.rmtree(path, ignore_errors=True)
