"""Boundaries of placement, each found by a mutant that no other test noticed."""

from fastlib.migfra.virt.placement import Destination, Guest, place, swap_order


def hosts(**free_cpus: int) -> list[Destination]:
    return [Destination(name=name, cpus=free, active=0) for name, free in free_cpus.items()]


def test_place_uses_mode_auto_by_default() -> None:
    guests = [Guest(name=f"vm{number}") for number in range(3)]
    room = hosts(a=4, b=2)
    assert place(guests, room) == place(guests, room, "auto")
    assert place(guests, room) != place(guests, room, "scatter")


def test_place_overbooks_by_default() -> None:
    (placement,) = place([Guest(name="vm1")], hosts(a=0))
    assert placement.host == "a"


def test_guest_of_unknown_memory_is_placed_after_the_smallest() -> None:
    guests = [Guest(name="unknown"), Guest(name="small", memory=1)]
    placements = place(guests, hosts(a=1, b=1), "compact", overbooking=False)
    assert [placement.host for placement in placements] == ["b", "a"]


def test_reason_reports_no_free_memory_as_zero() -> None:
    """A host may have less than nothing free, as its memory was overcommitted before."""
    for free in (0, -5):
        host = Destination(name="a", cpus=1, active=0, free_memory=free)
        (placement,) = place([Guest(name="vm1", memory=3)], [host])
        assert placement.reason == "a has 0 KiB free of 3 KiB needed"


def test_swap_compares_memory_of_zero_as_zero() -> None:
    """On overcommitted hosts, where less than nothing is free, not even such a guest fits."""
    empty, small = Guest(name="empty", memory=0), Guest(name="small", memory=1)
    assert swap_order(empty, -1, small, -1) == "save-first"
    assert swap_order(empty, -1, empty, -1) == "save-second"
