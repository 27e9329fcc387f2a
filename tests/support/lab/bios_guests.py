"""Domains without an operating system, with disks: they start in a third of a second."""

from pathlib import Path
from xml.sax.saxutils import quoteattr

from .fleet import Fleet


def define(fleet: Fleet, name: str, *disks: str, host: str = "hostA") -> None:
    """Define a domain without an operating system on a host."""
    guest = fleet.lab.define_guest(name, bios=True)
    path = fleet.lab.layout.guests / f"{name}.xml"
    path.write_text(guest.xml.replace("</devices>", f"{''.join(disks)}</devices>"))
    fleet.lab.host(host).virsh("define", path)


def disk_xml(
    path: Path | str, target: str = "vda", format: str = "raw", cache: str = "none", more: str = ""
) -> str:
    """The XML of a disk in an image file."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{format}' cache='{cache}'/>"
        f"<source file={quoteattr(str(path))}/><target dev='{target}' bus='virtio'/>{more}</disk>"
    )


def cdrom_xml(path: Path | str, target: str, attributes: str = "") -> str:
    """The XML of a CD-ROM. `attributes` are those of its source."""
    return (
        f"<disk type='file' device='cdrom'><source file='{path}' {attributes}/>"
        f"<target dev='{target}' bus='ide'/><readonly/></disk>"
    )


def make(fleet: Fleet, host: str, path: Path, size: str = "1M") -> None:
    """Make a raw image on a host, and its folder."""
    fleet.lab.host(host).run(["sh", "-c", f"mkdir -p $(dirname {path}); truncate -s {size} {path}"])
