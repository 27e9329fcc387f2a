"""Where domains go: examples of each mode, and the rules with any hosts and domains."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib.migfra.virt.memory_needs import HostMemory, HostNode, Need
from fastlib.migfra.virt.placement import Destination, Guest, Placement, place, swap_order
from tests.support.strategies import examples

MODES = ["auto", "compact", "scatter"]


def hosts(*free_cpus, memory=None):
    """Hosts a, b, c … with these numbers of free CPUs."""
    return [
        Destination(name=name, cpus=max(0, free), active=max(0, -free), free_memory=memory)
        for name, free in zip("abcdefgh", free_cpus, strict=False)
    ]


def guests(*memories):
    return [Guest(name=f"vm{i}", memory=memory) for i, memory in enumerate(memories)]


def targets(placements):
    return "".join(placement.host or "-" for placement in placements)


@pytest.mark.parametrize(
    ("mode", "free", "count", "expected"),
    [
        ("auto", (4, 2, 1), 5, "aaabA"),
        ("compact", (2, 3, 1), 5, "aabbb"),
        ("scatter", (4, 2, 1), 5, "abcab"),
        ("auto", (0, -1), 3, "aab"),
        ("compact", (1, 1), 4, "abab"),
        ("scatter", (-1, 9), 3, "aba"),
    ],
)
def test_mode_decides_the_placement(mode, free, count, expected):
    expected = expected.lower()
    placements = place(guests(*[None] * count), hosts(*free), mode)
    assert targets(placements) == expected


@pytest.mark.parametrize("mode", MODES)
def test_full_host_is_left_out_without_overbooking(mode):
    placements = place(guests(None, None, None), hosts(0, 1, 1), mode, overbooking=False)
    assert targets(placements) == "bc-"
    assert placements[2].reason == "; ".join(
        f"{name} has no free CPU and overbooking is off" for name in "abc"
    )


@pytest.mark.parametrize("mode", MODES)
def test_largest_domain_is_placed_first(mode):
    room = [
        Destination(name="a", cpus=8, active=0, free_memory=100),
        Destination(name="b", cpus=8, active=0, free_memory=30),
    ]
    assert targets(place(guests(30, 100), room, mode)) == "ba"


def test_reason_names_every_host():
    (placement,) = place(guests(50), hosts(1, 1, memory=20))
    assert placement.host is None
    assert (
        placement.reason == "a has 20 KiB free of 50 KiB needed; b has 20 KiB free of 50 KiB needed"
    )


def test_missing_destination_is_a_reason():
    (placement,) = place(guests(1), [])
    assert placement.reason == "there is no destination"


def test_repeated_destination_counts_once():
    placements = place(guests(None, None), hosts(1) * 2, overbooking=False)
    assert targets(placements) == "a-"


@pytest.mark.parametrize(
    ("first", "first_free", "second", "second_free", "order"),
    [
        (4, 4, 4, 4, "parallel"),
        (4, 0, 4, 4, "first"),
        (4, 4, 4, 0, "second"),
        (2, 0, 4, 0, "save-first"),
        (4, 0, 2, 0, "save-second"),
        (4, 0, 4, 0, "save-second"),
        (None, 0, None, 0, "parallel"),
        (4, None, 4, None, "parallel"),
    ],
)
def test_swap_order_depends_on_free_memory(first, first_free, second, second_free, order):
    one, two = Guest(name="one", memory=first), Guest(name="two", memory=second)
    assert swap_order(one, first_free, two, second_free) == order


amounts = st.none() | st.integers(0, 100)
some_hosts = st.lists(
    st.builds(
        Destination,
        name=st.sampled_from("abcdef"),
        cpus=st.integers(0, 6),
        active=st.integers(0, 6),
        free_memory=amounts,
    ),
    max_size=6,
    unique_by=lambda host: host.name,
)
some_guests = st.lists(amounts, max_size=10).map(lambda memories: guests(*memories))


@examples(40, 1000)
@given(some_guests, some_hosts, st.sampled_from(MODES), st.booleans())
def test_placements_keep_the_rules(domains, room, mode, overbooking):
    placements = place(domains, room, mode, overbooking=overbooking)
    assert place(domains, room, mode, overbooking=overbooking) == placements
    assert [placement.guest for placement in placements] == [domain.name for domain in domains]
    memory = {domain.name: domain.memory or 0 for domain in domains}
    for host in room:
        taken = [placement.guest for placement in placements if placement.host == host.name]
        if not overbooking:
            assert len(taken) <= max(0, host.cpus - host.active)
        if host.free_memory is not None:
            assert sum(memory[name] for name in taken) <= host.free_memory
    for placement in placements:
        assert (placement.host is None) == (placement.reason is not None)
        assert placement.host is None or placement.host in {host.name for host in room}


@examples(40, 1000)
@given(some_guests, some_hosts, st.sampled_from(MODES), st.booleans())
def test_domains_move_while_a_host_has_room(domains, room, mode, overbooking):
    placements = place(domains, room, mode, overbooking=overbooking)
    left = {host.name: [host.cpus - host.active, host.free_memory] for host in room}
    memory = {domain.name: domain.memory or 0 for domain in domains}
    for placement in placements:
        if placement.host is not None:
            left[placement.host][0] -= 1
            if left[placement.host][1] is not None:
                left[placement.host][1] -= memory[placement.guest]
    for placement in placements:
        for cpus, free in left.values() if placement.host is None else ():
            full = not overbooking and cpus <= 0
            assert full or (free is not None and memory[placement.guest] > free)


@examples(40, 1000)
@given(st.integers(0, 12), some_hosts.filter(bool))
def test_auto_levels_and_scatter_distributes_evenly(count, room):
    """With no regard to memory, auto levels the capacities out and scatter the numbers."""
    room = [Destination(name=host.name, cpus=host.cpus, active=host.active) for host in room]
    domains = guests(*[None] * count)
    numbers = {host.name: 0 for host in room}
    for placement in place(domains, room, "scatter"):
        numbers[placement.host] += 1
    assert max(numbers.values()) - min(numbers.values()) <= 1
    capacities = {host.name: host.cpus - host.active for host in room}
    for placement in place(domains, room, "auto"):
        assert capacities[placement.host] == max(capacities.values())
        capacities[placement.host] -= 1


@examples(40, 1000)
@given(st.integers(0, 12), some_hosts.filter(bool))
def test_compact_opens_no_host_before_the_last_is_full(count, room):
    room = [Destination(name=host.name, cpus=host.cpus, active=host.active) for host in room]
    taken = targets(place(guests(*[None] * count), room, "compact", overbooking=False))
    expected = "".join(host.name * max(0, host.cpus - host.active) for host in room)
    assert taken == expected[:count].ljust(count, "-")


# Exact boundaries and defaults


def host(name, capacity, free=None):
    return Destination(name=name, cpus=capacity + 2, active=2, free_memory=free)


def test_default_values():
    assert Destination(name="a", cpus=1, active=0).free_memory is None
    assert Guest(name="a").memory is None
    placement = Placement(guest="a")
    assert (placement.host, placement.reason) == (None, None)
    two = [host("a", 1), host("b", 2)]
    assert place(guests(None, None), two) == place(
        guests(None, None), two, "auto", overbooking=True
    )


@pytest.mark.parametrize(
    ("memory", "free", "target", "reason"),
    [
        (100, 100, "a", None),
        (101, 100, "-", "a has 100 KiB free of 101 KiB needed"),
        (0, 0, "a", None),
        (1, 0, "-", "a has 0 KiB free of 1 KiB needed"),
        (1, 1, "a", None),
        (1, -5, "-", "a has 0 KiB free of 1 KiB needed"),
        (None, 0, "a", None),
        (1 << 40, None, "a", None),
    ],
)
def test_domain_needs_exactly_its_memory(memory, free, target, reason):
    placements = place(guests(memory), [host("a", 1, free)])
    assert targets(placements) == target
    assert placements[0].reason == reason


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("capacity", "target"), [(-1, "-"), (0, "-"), (1, "a"), (2, "a")])
def test_host_is_full_at_no_capacity_without_overbooking(mode, capacity, target):
    assert targets(place(guests(None), [host("a", capacity)], mode, overbooking=False)) == target


def test_placed_domain_takes_memory_and_one_cpu():
    placements = place(guests(40, 30, 31), [host("a", 3, 100)])
    assert targets(placements) == "a-a"
    assert placements[1].reason == "a has 29 KiB free of 30 KiB needed"
    assert targets(place(guests(40, 30, 30), [host("a", 3, 100)])) == "aaa"
    assert targets(place(guests(1, None, None), [host("a", 2)], overbooking=False)) == "aa-"


def test_equal_domains_are_placed_in_their_order():
    assert targets(place(guests(5, 5, 5), [host("a", 9, 10), host("b", 1, 5)])) == "aab"
    assert targets(place(guests(None, 0, 1), [host("a", 1)], overbooking=False)) == "--a"


@pytest.mark.parametrize(
    ("mode", "capacities", "count", "expected"),
    [
        ("auto", (2, 2), 3, "aba"),  # a tie goes to the first
        ("auto", (1, 2), 2, "ba"),
        ("auto", (1, 2, 2), 3, "bca"),
        ("compact", (1, 2), 3, "abb"),
        ("compact", (0, 1), 2, "ba"),  # host a is full, then the first of two that are full
        ("compact", (-1, 0), 1, "b"),
        ("compact", (2, 0), 3, "aaa"),
        ("scatter", (1, 1, 1), 4, "abca"),
        ("scatter", (0, 0), 3, "aba"),
    ],
)
def test_mode_at_the_boundaries(mode, capacities, count, expected):
    some = [host(name, capacity) for name, capacity in zip("abc", capacities, strict=False)]
    assert targets(place(guests(*[None] * count), some, mode)) == expected


def test_scatter_continues_behind_the_last_host():
    # b has no memory for the second domain, so it goes to c, and the third one to a.
    some = [host("a", 9, 100), host("b", 9, 5), host("c", 9, 100)]
    assert targets(place(guests(10, 9, 8, 5), some, "scatter")) == "acab"


def test_repeated_destination_keeps_its_first_place():
    some = [host("a", 1), host("b", 1), host("a", 5)]
    assert targets(place(guests(None, None), some, "compact", overbooking=False)) == "ab"
    assert targets(place(guests(None, None, None), some, "compact", overbooking=False)) == "ab-"


@pytest.mark.parametrize(
    ("first", "first_free", "second", "second_free", "order"),
    [
        (4, 5, 5, 4, "parallel"),  # each fits exactly
        (5, 5, 5, 4, "second"),
        (4, 4, 5, 4, "first"),
        (5, 4, 5, 4, "save-second"),
        (4, 3, 5, 3, "save-first"),
        (5, 3, 4, 3, "save-second"),
        (1, 0, 2, 0, "save-first"),
        (None, 0, 4, 0, "first"),
        (4, 0, None, 0, "second"),
        (4, None, 4, 0, "second"),
        (4, 0, 4, None, "first"),
    ],
)
def test_swap_order_at_the_boundaries(first, first_free, second, second_free, order):
    one, two = Guest(name="one", memory=first), Guest(name="two", memory=second)
    assert swap_order(one, first_free, two, second_free) == order


@pytest.mark.parametrize("mode", MODES)
def test_host_with_an_old_saved_image_of_the_domain_is_left_out(mode):
    images = [Destination(name="a", cpus=9, active=0, saved=frozenset({"vm0"})), *hosts(9)[1:]]
    other = Destination(name="b", cpus=1, active=0)
    assert targets(place(guests(1, 1), [*images, other], mode))[0] == "b"
    (placement,) = place(guests(1), images, mode)
    assert placement.reason == "a has an old saved image of vm0; delete it there"


# Huge pages and memory nodes

PAGE = 2048


def paged(name, pages, nodes=None, normal=0):
    """A domain with some huge pages, and some KiB of normal memory."""
    bound = None if nodes is None else frozenset(nodes)
    needs = [Need(part="a", size=pages * PAGE, is_huge=True, page=PAGE, nodes=bound)]
    needs += [Need(part="b", size=normal)] if normal else []
    return Guest(name=name, memory=pages * PAGE + normal, needs=needs)


def nodes_with(*free_pages):
    """The memory of a host with some free huge pages on each node."""
    return HostMemory(
        nodes={
            number: HostNode(pages={PAGE: 100}, free_pages={PAGE: free})
            for number, free in enumerate(free_pages)
        }
    )


def host_with(name, *free_pages, capacity=9, free=0):
    return Destination(
        name=name, cpus=capacity, active=0, free_memory=free, nodes=nodes_with(*free_pages)
    )


@pytest.mark.parametrize("mode", MODES)
def test_domain_on_huge_pages_goes_where_they_are_free(mode):
    few, many = host_with("a", 9, capacity=99, free=1 << 40), host_with("b", 10)
    assert targets(place([paged("vm", 10)], [few, many], mode)) == "b"
    assert targets(place([paged("vm", 9)], [few, host_with("b")], mode)) == "a"
    assert place([paged("vm", 10)], [few], mode)[0].reason == (
        "a has 9 huge pages of 2048 KiB free on its memory node 0, but vm needs 10 there; reserve "
        "more on a in /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages, or "
        "choose another host"
    )


def test_huge_pages_take_no_normal_memory():
    guest = paged("vm", 10, normal=5)
    assert targets(place([guest], [host_with("a", 10, free=5)])) == "a"
    (placement,) = place([guest], [host_with("a", 10, free=4)])
    assert placement.reason == "a has 4 KiB free of 5 KiB needed"
    assert targets(place([guest, guests(1)[0]], [host_with("a", 99, free=5)])) == "a-"


def test_placed_domains_take_huge_pages():
    domains = [paged(f"vm{number}", 4) for number in range(4)]
    placements = place(domains, [host_with("a", 8, capacity=99), host_with("b", 4)])
    assert targets(placements) == "aab-"
    assert "but vm3 with 2 others needs 12 there" in placements[3].reason
    assert "; b has 4 huge pages of 2048 KiB free on its memory node 0, but vm3 with 1 other " in (
        placements[3].reason
    )


def test_bound_domains_take_the_pages_of_their_nodes():
    domains = [paged("first", 5, [0]), paged("second", 4, [0, 1]), paged("third", 2, [0])]
    assert targets(place(domains, [host_with("a", 6, 9)])) == "aa-"
    assert targets(place(domains, [host_with("a", 7, 4)])) == "aaa"
    assert targets(place(domains, [host_with("a", 7, 3)])) == "aa-"


def test_host_of_unknown_nodes_takes_any_domain():
    assert targets(place([paged("vm", 1 << 30)], hosts(1))) == "a"


@pytest.mark.parametrize(
    ("first_free", "second_free", "order"),
    [
        (6, 4, "parallel"),  # each fits exactly
        (5, 4, "first"),
        (6, 3, "second"),
        (5, 3, "save-first"),
    ],
)
def test_swap_order_depends_on_free_huge_pages(first_free, second_free, order):
    found = swap_order(
        paged("one", 4), 0, paged("two", 6), 0,
        first_nodes=nodes_with(first_free), second_nodes=nodes_with(second_free),
    )  # fmt: skip
    assert found == order


# Room for copies of disks


def with_disks(name, **sizes):
    return Guest(name=name, disks={f"/{folder}": size for folder, size in sizes.items()})


def roomy(name, capacity=9, **rooms):
    disk_room = {f"/{folder}": free for folder, free in rooms.items()}
    return Destination(name=name, cpus=capacity, active=0, disk_room=disk_room)


@pytest.mark.parametrize("mode", MODES)
def test_host_with_room_for_the_disks_is_preferred(mode):
    few, many = roomy("a", capacity=99, x=9), roomy("b", x=10)
    assert targets(place([with_disks("vm", x=10)], [few, many], mode)) == "b"
    assert targets(place([with_disks("vm", x=9)], [few, roomy("b")], mode)) == "a"
    assert targets(place([with_disks("vm", x=9, y=1)], [few, roomy("b", x=9, y=1)], mode)) == "b"


def test_placed_disks_take_their_room():
    domains = [with_disks(f"vm{number}", x=4) for number in range(4)]
    assert targets(place(domains, [roomy("a", capacity=99, x=8), roomy("b", x=7)])) == "aaba"


def test_domain_without_room_for_its_disks_is_left_to_the_check():
    assert targets(place([with_disks("vm", x=10)], [roomy("a", x=9), roomy("b")])) == "a"
