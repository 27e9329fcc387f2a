"""The disks of guests with Linux: one that all hosts reach, or an image of one host."""

from collections.abc import Mapping

import msgspec

from tests.support.lab.fleet import Fleet
from tests.support.lab.local_disks import LocalDisk, images_on, make_folder, remove_images
from tests.support.lab.shared_disks import SharedDisk

from .scenario import HOSTS, Order, Scenario, started_names

Disk = SharedDisk | LocalDisk


class GuestDisks:
    """The disk of each guest, at the host that has its newest image."""

    def __init__(self, fleet: Fleet, scenario: Scenario, shared: Mapping[str, SharedDisk]) -> None:
        self._fleet = fleet
        self.disks: dict[str, Disk] = {}
        for host in fleet.lab.hosts:
            remove_images(host)
            make_folder(host)
        for domain in scenario.domains:
            if domain.linux:
                host = fleet.lab.host(domain.host)
                disk = shared[domain.name]
                local = domain.disk != "shared"
                self.disks[domain.name] = LocalDisk(host, disk.name, domain.disk) if local else disk

    @property
    def _local(self) -> dict[str, LocalDisk]:
        return {name: disk for name, disk in self.disks.items() if isinstance(disk, LocalDisk)}

    @property
    def paths(self) -> dict[str, str]:
        """The path of each image of one host, by the name of its guest."""
        return {name: str(disk.path) for name, disk in self._local.items()}

    def spread_backing_files(self) -> None:
        """Give all hosts the backing files of the images that the guests have been given."""
        for disk in self._local.values():
            if disk.kind == "overlay":
                for host in self._fleet.lab.hosts:
                    if host != disk.host:
                        disk.copy_backing(host)

    def directed(self, order: Order) -> Order:
        """The order, at the host with the newest image if it starts the guest of one.

        On another host the guest would start from an older image, as an operator must not let it.
        """
        for name in started_names(order):
            if isinstance(disk := self.disks.get(name), LocalDisk):
                return msgspec.structs.replace(order, host=disk.host.name)
        return order

    def follow(self, places: Mapping[str, list[str]]) -> list[str]:
        """Find the newest images after an order; `places` has the hosts where each guest is active.

        Returns the names of guests whose disk has lost data that they do not write.
        """
        wrong = []
        for name, disk in self._local.items():
            sides = [disk.on(self._fleet.lab.host(host)) for host in HOSTS]
            there = [
                side
                for side in sides
                if side.path.name in images_on(side.host)
                and side.host.name in (places.get(name) or HOSTS)
            ]
            if not there:
                continue  # the rule has found that
            newest = there[0] if len(there) == 1 else max(there, key=lambda side: side.count)
            self.disks[name] = newest
            if newest.host != disk.host and newest.digest != newest.right_digest:
                wrong.append(name)
        return wrong
