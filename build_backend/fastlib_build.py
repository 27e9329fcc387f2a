"""Build fastlib by setuptools, and compile the fast reader by mypyc where that is asked for.

Everything else about the build is in pyproject.toml. The compiled modules are made of the pure
ones, which are always part of the package. An editable install is pure.

`--config-settings compile=yes` or the variable `FASTLIB_COMPILE=yes` compiles, and the build fails
where that is impossible. `compile=auto` then says why and builds the pure package. `compile=no` is
the default, because mypy and a C compiler would have to be there.
"""

import contextlib
import os
import runpy
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from setuptools import build_meta

COMPILED = ("fastlib/codec/fast_reader.py", "fastlib/codec/fast_values.py")
"""The compiled modules. They become one shared library, so a package has all of them or none."""

_MYPY = "mypy>=1.15"
_OPTIONS = (
    # Nothing of the user's mypy.ini counts. All other modules are Any, so their versions and
    # whether they are installed make no difference to what is compiled.
    *("--config-file=", "--follow-imports=skip", "--ignore-missing-imports"),
    *("--hide-error-context", "--no-color-output", "--no-error-summary"),
)

Settings = Mapping[str, Any] | None


class Impossible(Exception):
    """The modules cannot be compiled here; the text says why and what to do."""


_folder: Path | None = None
"""Where the C sources of the build that runs are put; None while a pure package is built."""


def extensions() -> list[Any]:
    """Return the extensions of the build that runs; setup.py passes them to setuptools."""
    if _folder is None:
        return []
    from mypyc.build import mypycify

    options = [f"--cache-dir={_folder / 'mypy'}", *_OPTIONS]
    found: list[Any] = mypycify(
        [*COMPILED, *options],
        opt_level="3",
        debug_level="0",
        target_dir=str(_folder / "c"),
        group_name=_library_name(),
    )
    for extension in found:  # a warning of another compiler must not stop the build
        arguments = extension.extra_compile_args
        extension.extra_compile_args = [text for text in arguments if text != "-Werror"]
    return found


def _library_name() -> str:
    """Return the name that `fastlib.codec.compiled` expects; fastlib cannot be imported here."""
    names = runpy.run_path("fastlib/codec/compiled.py")
    return str(names["library_name"]("fastlib/codec"))


# --- whether to compile ---------------------------------------------------------------------------


def choice(settings: Settings) -> str:
    """Return yes, no or auto. A setting goes before the variable. Raises SystemExit for others."""
    chosen = (settings or {}).get("compile") or os.environ.get("FASTLIB_COMPILE") or "no"
    word = {"1": "yes", "0": "no"}.get(chosen, chosen)
    if word not in ("yes", "no", "auto"):
        sys.exit(f"fastlib: compile must be yes, no or auto, not {chosen!r}")
    return str(word)


def obstacle() -> str | None:
    """Return why this Python cannot build an extension and what to do, or None if it can."""
    if sys.implementation.name != "cpython":
        return f"mypyc needs CPython, and this is {sys.implementation.name}"
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        return f"the headers of Python are missing: {header}. Install python3-dev"
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"the C compiler {compiler} is missing. Install gcc"
    return None


def requirements(settings: Settings) -> list[str]:
    """Return what a wheel needs besides setuptools."""
    word = choice(settings)
    return [_MYPY] if word == "yes" or (word == "auto" and obstacle() is None) else []


# --- the hooks of PEP 517 and PEP 660 -------------------------------------------------------------


def get_requires_for_build_sdist(config_settings: Settings = None) -> list[str]:
    return list(build_meta.get_requires_for_build_sdist())


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    return [*build_meta.get_requires_for_build_wheel(), *requirements(config_settings)]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    return list(build_meta.get_requires_for_build_editable())


def prepare_metadata_for_build_wheel(
    metadata_directory: str, config_settings: Settings = None
) -> str:
    return str(build_meta.prepare_metadata_for_build_wheel(metadata_directory))


def prepare_metadata_for_build_editable(
    metadata_directory: str, config_settings: Settings = None
) -> str:
    return str(build_meta.prepare_metadata_for_build_editable(metadata_directory))


def build_sdist(sdist_directory: str, config_settings: Settings = None) -> str:
    return str(build_meta.build_sdist(sdist_directory))


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    return str(build_meta.build_editable(wheel_directory, None, metadata_directory))


def build_wheel(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    word = choice(config_settings)
    if word != "no":
        try:
            return _build_compiled(wheel_directory)
        except Impossible as error:
            if word == "yes":
                sys.exit(f"fastlib: the fast reader cannot be compiled: {error}")
            print(f"fastlib: the fast reader is not compiled: {error}", file=sys.stderr)
    with _build_folder():
        return str(build_meta.build_wheel(wheel_directory))


def _build_compiled(wheel_directory: str) -> str:
    """Build a wheel with all compiled modules. Raises Impossible, and leaves nothing behind."""
    global _folder
    reason = obstacle()
    if reason is not None:
        raise Impossible(reason)
    with _build_folder() as folder:
        _folder = folder
        try:
            return str(build_meta.build_wheel(wheel_directory))
        except (Exception, SystemExit) as error:  # mypyc and setuptools end the program
            raise Impossible(f"{error or 'mypyc failed'}; see the output above") from error
        finally:
            _folder = None


@contextlib.contextmanager
def _build_folder() -> Iterator[Path]:
    """Let setuptools build in a folder of its own, without what earlier builds left behind.

    The folder is in the source's, because setuptools takes no C source with an absolute path.
    """
    before = os.environ.get("DIST_EXTRA_CONFIG")
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="build") as name:
        folder = Path("build", Path(name).name)
        settings = folder / "setup.cfg"
        settings.write_text(f"[build]\nbuild_base = {folder / 'build'}\n")
        os.environ["DIST_EXTRA_CONFIG"] = str(settings)
        try:
            yield folder
        finally:
            del os.environ["DIST_EXTRA_CONFIG"]
            if before is not None:
                os.environ["DIST_EXTRA_CONFIG"] = before
    with contextlib.suppress(OSError):  # it has files of somebody else
        Path("build").rmdir()
