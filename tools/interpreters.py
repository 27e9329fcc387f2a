"""Virtual environments of other interpreters, and of the newest versions of all packages."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .processes import CACHE, ROOT

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ".[test,bench]"
LIBVIRT = ".[libvirt]"


def environment_of(version: str) -> Path | None:
    """Return the Python of an environment with locked packages; None without that interpreter."""
    program = _program(version)
    if program is None:
        return None
    return _environment(program, f"python-{version}", ["--constraint", "constraints.txt"])


def unlocked_environment() -> Path:
    """Return the Python of an environment with the newest versions of all packages."""
    return _environment(sys.executable, "unlocked", ["--upgrade"])


def other_versions() -> Iterator[str]:
    """Yield the supported versions of Python but the one that runs this."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (version for version in VERSIONS if version != own)


def _program(version: str) -> str | None:
    """Find an interpreter by PATH, in pyenv, or by uv."""
    found = [shutil.which(f"python{version}")]
    found += map(str, sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python")))
    if uv := shutil.which("uv"):
        command = [uv, "python", "find", "--no-project", version]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found.append(done.stdout.strip())
    return next((program for program in found if program and _works(program)), None)


def _works(program: str) -> bool:
    """Return whether a program starts; a shim of pyenv may stand for nothing."""
    done = subprocess.run([program, "--version"], capture_output=True, check=False)
    return done.returncode == 0


def _environment(program: str, name: str, options: list[str]) -> Path:
    """Make an environment, or bring it up to date."""
    folder = CACHE / "environments" / name
    python = folder / "bin" / "python"
    print(f"packages of {name} go into {folder}", flush=True)
    if not python.exists():
        subprocess.run([program, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, "--editable", EXTRAS], cwd=ROOT, check=True)
    _install_libvirt([*pip, *options])
    return python


def _install_libvirt(pip: list[str]) -> None:
    """Install libvirt-python, which pip compiles, if that is possible on this machine."""
    command = [*pip, "--editable", LIBVIRT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "pip failed").splitlines()[-1]
        print(f"libvirt is not tested, as pip cannot install {LIBVIRT}: {reason}", flush=True)
