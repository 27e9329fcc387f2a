"""Whether the laboratory can run on this machine; if not, the reason and the remedy."""

import os
import shutil
import subprocess
from pathlib import Path

from .image import kernel_problem
from .namespaces import environment

_PROGRAMS = (
    *("ip", "unshare", "nsenter", "mount", "mosquitto", "sshd", "ssh", "ssh-keygen", "openssl"),
    *("libvirtd", "virsh", "qemu-system-x86_64", "qemu-img", "gcc"),
)
_NAMESPACES = ("--mount", "--uts", "--net", "--pid", "--fork", "--mount-proc")
_QEMU_DRIVER = "libvirt/connection-driver/libvirt_driver_qemu.so"


def missing() -> list[str]:
    """A sentence for each thing that the laboratory needs and does not have here."""
    found = []
    path = environment()["PATH"]
    absent = [program for program in _PROGRAMS if shutil.which(program, path=path) is None]
    if absent:
        found.append(f"not installed: {', '.join(absent)}; as root: tests/support/lab/install")
    elif not any(any(Path("/usr").glob(f"{lib}/{_QEMU_DRIVER}")) for lib in ("lib*", "lib/*")):
        found.append("not installed: libvirt's driver for QEMU; as root: tests/support/lab/install")
    if (problem := kernel_problem()) is not None:
        found.append(problem)
    if os.geteuid() != 0:
        found.append("it makes namespaces and mounts, for which it must be run as root")
    elif (why := _without_namespaces()) is not None:
        found.append(f"namespaces and mounts in them are not permitted here: {why}")
    return found


def _without_namespaces() -> str | None:
    """Try it; why it cannot be done, or None."""
    attempt = "mount -t tmpfs x /mnt && mkdir /mnt/u /mnt/w && ip link add x type bridge && " + (
        "mount -t overlay -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w x /etc"
    )
    command = ["unshare", *_NAMESPACES, "sh", "-c", attempt]
    try:
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "unshare is not installed"
    return None if done.returncode == 0 else done.stderr.strip()
