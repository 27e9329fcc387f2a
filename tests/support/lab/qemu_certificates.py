"""Certificates of QEMU on the hosts of a laboratory, for encrypted migrations."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.support.certificates import Authority

from .host import Host
from .laboratory import Lab

FOLDER = "/etc/pki/qemu"


def install(host: Host, files: Mapping[str, bytes], folder: str = FOLDER) -> None:
    """Replace the certificates of a host."""
    remove(host, folder)
    host.run(["mkdir", "-p", folder])
    for name, data in files.items():
        host.run(["tee", f"{folder}/{name}"], input=data.decode())


def remove(host: Host, folder: str = FOLDER) -> None:
    """Remove all certificates of a host."""
    host.run(["rm", "-rf", folder])


@contextmanager
def certified(lab: Lab) -> Iterator[Authority]:
    """Give all hosts certificates of one authority, for the context."""
    authority = Authority("authority of the laboratory")
    for host in lab.hosts:
        install(host, authority.qemu_files(host.name))
    try:
        yield authority
    finally:
        for host in lab.hosts:
            remove(host)
