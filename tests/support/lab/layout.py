"""Where things are: the folder of a laboratory, the names of its hosts, their addresses."""

import os
import re
import string
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

MOST_HOSTS = 26
BROKER = "broker"
BROKER_ADDRESS = "10.77.0.254"
BROKER_PORT = 1883
_LONGEST_SOCKET = 107  # bytes of a Unix socket's path, as the kernel has it


def default_root() -> Path:
    """The folder of all laboratories of this user, unless FASTLIB_LAB_ROOT names one."""
    folder = os.environ.get("FASTLIB_LAB_ROOT")
    if folder:
        return Path(folder)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime, "fastlib-lab")
    return Path(tempfile.gettempdir(), f"fastlib-lab-{os.getuid()}")


_UNIQUE = re.compile(r"own-\d+-[0-9a-f]{6}")


def unique_name() -> str:
    """A name for a laboratory that no other has."""
    return f"own-{os.getpid()}-{os.urandom(3).hex()}"


def is_unique(name: str) -> bool:
    """Whether `unique_name` made a name, so no process uses it again."""
    return _UNIQUE.fullmatch(name) is not None


def unique_names(root: Path) -> list[str]:
    """The laboratories of such names that have a folder."""
    return (
        [entry.name for entry in root.iterdir() if is_unique(entry.name)] if root.is_dir() else []
    )


def host_names(count: int) -> list[str]:
    """`hostA`, `hostB`, and so on. Raises LabError for too many."""
    if not 1 <= count <= MOST_HOSTS:
        raise LabError(f"a laboratory has 1 to {MOST_HOSTS} hosts, not {count}")
    return [f"host{letter}" for letter in string.ascii_uppercase[:count]]


def address(host: str) -> str:
    """Addresses exist only inside the laboratory, so each laboratory has the same."""
    return f"10.77.0.{string.ascii_uppercase.index(host.removeprefix('host')) + 1}"


@dataclass(frozen=True)
class Layout:
    """The files of one laboratory. Raises LabError for a name or a root that will not do."""

    root: Path
    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z0-9][a-z0-9-]{0,30}", self.name):
            raise LabError(
                f"{self.name!r} is no name for a laboratory: small letters, digits and dashes, "
                "at most 31"
            )
        object.__setattr__(self, "root", self.root.absolute())
        longest = os.fsencode(self.socket("hostA"))
        if len(longest) > _LONGEST_SOCKET:
            raise LabError(
                f"the path of a socket would be {len(longest)} bytes long, more than the "
                f"{_LONGEST_SOCKET} that a path of a socket may have: {longest.decode()}: "
                "choose a shorter folder, by --root or FASTLIB_LAB_ROOT"
            )

    @property
    def directory(self) -> Path:
        return self.root / self.name

    @property
    def lock(self) -> Path:
        """The process that brings the laboratory up or down holds it."""
        return self.root / f".{self.name}.lock"

    @property
    def settings(self) -> Path:
        """Written first, so its presence tells that the folder is a laboratory's."""
        return self.directory / "lab.json"

    @property
    def ready(self) -> Path:
        """Written last."""
        return self.directory / "ready"

    @property
    def logs(self) -> Path:
        return self.directory / "log"

    @property
    def guests(self) -> Path:
        return self.directory / "guests"

    @property
    def keys(self) -> Path:
        return self.directory / "keys"

    def runtime(self, host: str) -> Path:
        """The folder that is `/run/libvirt` on that host."""
        return self.directory / "run" / host

    def socket(self, host: str) -> Path:
        """By which libvirt on that host is reached from everywhere on the machine."""
        return self.runtime(host) / "libvirt-sock"
