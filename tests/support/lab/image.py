"""The images of guests: a kernel from Debian's package, and an archive with one program.

Both are kept in the user's cache, named after what they were made of.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import LabError

_SOURCE = Path(__file__).with_name("guest.c")
_PACKAGE = "linux-image-cloud-amd64"
# In the order in which they are loaded.
_DRIVERS = (
    *("virtio/virtio_ring", "virtio/virtio", "virtio/virtio_pci_legacy_dev"),
    *("virtio/virtio_pci_modern_dev", "virtio/virtio_pci", "virtio/virtio_balloon"),
    *("acpi/button", "input/evdev"),
)


def cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fastlib-lab")


def image() -> tuple[Path, Path]:
    """The paths of kernel and archive, made if they are missing.

    Raises LabError if the kernel cannot be had or the program not be compiled.
    """
    kernel = kernel_folder()
    digest = hashlib.sha256(_SOURCE.read_bytes() + Path(__file__).read_bytes()).hexdigest()[:12]
    guest = cache() / f"guest-{digest}"
    if not (guest / "initrd").exists():
        make_folder(guest, lambda folder: _make_archive(folder, kernel / "drivers"))
    return kernel / "vmlinuz", guest / "initrd"


def kernel_folder() -> Path:
    """Where `vmlinuz` and its `drivers` are, fetched if they are missing. Raises LabError."""
    kernel = cache() / "kernel"
    if not (kernel / "vmlinuz").exists():
        make_folder(kernel, _fetch_kernel)
    return kernel


def kernel_problem() -> str | None:
    """Say why the guests' kernel cannot be had on this machine; None if it can."""
    if (cache() / "kernel" / "vmlinuz").exists():
        return None
    if shutil.which("apt-cache") is not None:
        command = ["apt-cache", "show", _PACKAGE]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return None
    return f"apt-get does not know {_PACKAGE}, Debian's kernel, which the guests boot"


def make_folder(folder: Path, make: Callable[[Path], None]) -> None:
    """Make a folder completely or not at all, also if another process does so at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        new = Path(temporary, "new")
        new.mkdir()
        make(new)
        try:
            new.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _fetch_kernel(folder: Path) -> None:
    depends = _run("apt-cache", "depends", "--important", _PACKAGE).stdout
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if found is None:
        raise LabError(
            f"the guest's kernel is Debian's package {_PACKAGE}, which apt-get does not know; "
            "if this is a Debian: apt-get update"
        )
    _run("apt-get", "download", "-q", found[1], cwd=folder)
    (package,) = folder.glob("*.deb")
    wanted = {f"{driver.rpartition('/')[2]}.ko" for driver in _DRIVERS}
    (folder / "drivers").mkdir()
    with subprocess.Popen(["dpkg", "--fsys-tarfile", package], stdout=subprocess.PIPE) as unpacked:
        assert unpacked.stdout is not None
        with tarfile.open(fileobj=unpacked.stdout, mode="r|") as archive:
            for member in archive:
                name = Path(member.name).name
                if name in wanted:
                    _extract(archive, member, folder / "drivers" / name)
                elif name.startswith("vmlinuz-"):
                    _extract(archive, member, folder / "vmlinuz")
    package.unlink()


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = archive.extractfile(member)
    assert content is not None
    with content, path.open("wb") as target:
        shutil.copyfileobj(content, target)


def _make_archive(folder: Path, drivers: Path) -> None:
    program = folder / "init"
    _run("gcc", "-O2", "-Wall", "-Werror", "-static", "-s", "-o", program, _SOURCE)
    archive = b"".join(_archive(program, drivers))
    # Compressing costs the guest more time than it saves.
    (folder / "initrd").write_bytes(archive)
    program.unlink()


def _archive(program: Path, drivers: Path) -> Iterator[bytes]:
    """The archive as the kernel reads it: `cpio`, the format `newc`."""
    yield entry(1, "dev", 0o040755)
    yield entry(2, "dev/console", 0o020600, device=(5, 1))
    yield entry(3, "drivers", 0o040755)
    yield entry(4, "init", 0o100755, program.read_bytes())
    for number, driver in enumerate(_DRIVERS):
        name = driver.rpartition("/")[2]
        content = (drivers / f"{name}.ko").read_bytes()
        yield entry(5 + number, f"drivers/{number:02}-{name}.ko", 0o100644, content)
    yield entry(0, "TRAILER!!!", 0)


def entry(
    number: int, name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)
) -> bytes:
    """One file of an archive; the last is number 0, `TRAILER!!!`."""
    path = name.encode() + b"\0"
    numbers = (number, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(path), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in numbers) + path
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def _run(*command: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            [*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not installed: tests/support/lab/install") from None
    if done.returncode != 0:
        raise LabError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
    return done
