"""Ask and change a host's libvirt from outside the laboratory, without fastlib."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .host import Host

_SAVED = "var/lib/libvirt/qemu/save"


@contextmanager
def libvirt_of(host: Host) -> Iterator[Any]:
    """A connection to a host's libvirt, which must answer. Raises libvirtError."""
    import libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)  # it prints each error otherwise
    connection = libvirt.open(host.uri)
    try:
        yield connection
    finally:
        with suppress(libvirt.libvirtError):
            connection.close()


def end_domains(host: Host) -> bool:
    """End and forget all domains of a host, with all that libvirt keeps of them.

    Returns whether there was none before.
    """
    import libvirt

    with libvirt_of(host) as connection:
        domains = connection.listAllDomains()
        for domain in domains:
            # Either may fail: an incoming migration ends together with its other half.
            with suppress(libvirt.libvirtError):
                domain.destroy()
            with suppress(libvirt.libvirtError):
                domain.undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                )
    if not domains:
        for image in saved_images(host).values():
            image.unlink()
    return not domains


def saved_images(host: Host) -> dict[str, Path]:
    """The managed save images of a host, by the domain's name, also those of unknown domains."""
    folder = Path(f"/proc/{host.init_process.pid}/root") / _SAVED
    return {path.stem: path for path in folder.glob("*.save")}
