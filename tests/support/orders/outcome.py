"""What the rule judges: an order, its answer, and the fleet before and after it."""

from collections.abc import Mapping

import msgspec

from fastlib.message import Result

from .fleet_view import FleetView
from .scenario import Fault, Order


class Violation(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the rule that was broken."""

    part: str
    """Always the same words for the same part."""
    observed: str

    def __str__(self) -> str:
        return f"{self.part}: {self.observed}"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """An order, its answer, and the fleet before and after it."""

    order: Order
    """With real XML."""
    results: tuple[Result, ...]
    before: FleetView
    after: FleetView
    fault: Fault | None
    """The fault that has happened, if one has."""
    local_disks: Mapping[str, str] = {}
    """Path of the image of each guest that has a disk of one host, by its name."""
