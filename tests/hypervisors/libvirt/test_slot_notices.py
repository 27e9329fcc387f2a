"""The notices in the libvirt of a host, by which daemons share its limits."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib.migfra.hypervisors.libvirt.slots.notices import (
    HostNotices,
    Note,
    define_notice,
    free_slot,
    lowest_free,
    next_ticket,
    publish_limits,
    read_notices,
    remove_notices,
    slot_notice,
    ticket_notice,
)
from tests.support.libvirt.fake_domain import refusal
from tests.support.libvirt.fake_libvirt import FakeHost
from tests.support.libvirt.slot_daemons import ArrivingDomain


@pytest.fixture
def host():
    return FakeHost("b", lambda _: None)


def test_slot_is_defined_once(host):
    one = slot_notice("incoming", 1, Note(by="a", domains=("vm1",)))
    other = slot_notice("incoming", 1, Note(by="c", domains=("vm2",)))
    assert define_notice(host, one)
    assert not define_notice(host, other)
    renewed = msgspec.structs.replace(one, note=msgspec.structs.replace(one.note, beat=7))
    assert define_notice(host, renewed)
    assert read_notices(host).notices == (renewed,)
    remove_notices(host, [other.uuid, one.uuid, one.uuid])
    assert define_notice(host, other)


def test_other_errors_of_a_definition_are_raised(host):
    host.refuses["secrets"] = refusal("ACCESS_DENIED", "not permitted")
    with pytest.raises(type(host.refuses["secrets"])):
        define_notice(host, slot_notice("incoming", 1, Note(by="a")))


def test_notice_is_defined_again_after_the_other_one_was_removed(host, monkeypatch):
    other = slot_notice("incoming", 1, Note(by="c"))
    define_notice(host, other)
    look_up = host.secretLookupByUsage

    def too_late(kind, usage):
        host.secrets.clear()
        return look_up(kind, usage)

    monkeypatch.setattr(host, "secretLookupByUsage", too_late)
    own = slot_notice("incoming", 1, Note(by="a"))
    assert define_notice(host, own)
    assert list(host.secrets) == [own.uuid]


def test_limits_are_published_after_another_program_removed_their_notice(host, monkeypatch):
    publish_limits(host, "b", {"outgoing": 2, "incoming": 2})
    (secret,) = host.secrets.values()

    def gone(flags=0):
        host.secrets.clear()
        raise refusal("NO_SECRET", "no secret with matching uuid")

    monkeypatch.setattr(secret, "XMLDesc", gone)
    publish_limits(host, "b", {"outgoing": 2, "incoming": 5})
    assert read_notices(host).limit("incoming") == 5


def test_arrivals_are_read_without_the_permission_for_secrets(host):
    host.add(ArrivingDomain("x", 3, 2))
    host.refuses["secrets"] = refusal("ACCESS_DENIED", "not permitted")
    found = read_notices(host)
    assert (found.without_secrets, found.arriving) == ("not permitted", {"x"})
    host.refuses["secrets"] = refusal("INTERNAL_ERROR", "out of luck")
    with pytest.raises(type(host.refuses["secrets"])):
        read_notices(host)


def test_secrets_of_others_are_not_removed(host):
    xml = (
        "<secret><uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid><description>{}</description>"
        "<usage type='ceph'><name>{}</name></usage></secret>"
    )
    host.secretDefineXML(xml.format("a disk", "client.admin"))
    assert read_notices(host).notices == ()
    host.secrets.clear()
    host.secretDefineXML(xml.format("by hand", "migfra incoming 2"))
    (notice,) = read_notices(host).notices
    assert (notice.number, notice.note) == (2, Note(by=""))


def test_limits_are_published_once_and_changed(host):
    for incoming in (2, 2, 5):
        publish_limits(host, "b", {"outgoing": 2, "incoming": incoming})
        assert len(host.secrets) == 1
        assert read_notices(host).limit("incoming") == incoming
    assert HostNotices().limit("incoming") is None


def notices_of(slots, tickets, arriving=()):
    notices = [slot_notice("incoming", number, Note(by="x", domains=(name,)))
               for number, name in slots]  # fmt: skip
    notices += [ticket_notice("incoming", number, Note(by=by)) for number, by in tickets]
    return HostNotices(notices=tuple(notices), arriving=frozenset(arriving))


@pytest.mark.parametrize(
    ("slots", "tickets", "arriving", "ticket", "expected"),
    [
        ([], [], [], None, (1, False)),
        ([(1, "vm1")], [], [], None, (2, False)),
        ([(2, "vm1")], [], ["vm1"], None, (1, False)),
        ([(1, "vm1")], [], ["vm1", "by hand"], None, (None, False)),
        ([(1, "vm1"), (2, "vm2")], [], [], None, (None, False)),
        ([(1, "vm1"), (5, "vm2")], [], [], None, (None, False)),
        ([(1, "vm1")], [(1, "c")], [], None, (None, True)),
        ([], [(1, "c")], [], None, (1, False)),
        ([], [(1, "c"), (2, "d")], [], None, (None, True)),
        ([(1, "vm1")], [(1, "c"), (2, "a")], [], 2, (None, True)),
        ([(1, "vm1")], [(3, "c"), (2, "a")], [], 2, (2, False)),
        ([(1, "vm1")], [(1, "a")], [], None, (2, False)),
    ],
)
def test_slot_is_free_for_the_next_daemon(slots, tickets, arriving, ticket, expected):
    found = notices_of(slots, tickets, arriving)
    taken = free_slot(found, "incoming", 2, by="a", stale=(), ticket=ticket, ignore_tickets=False)
    assert taken == expected


@given(st.sets(st.integers(1, 9)), st.sets(st.integers(1, 9)), st.integers(1, 5))
def test_slots_above_the_limit_are_never_given_out(slots, tickets, limit):
    found = notices_of([(n, f"vm{n}") for n in slots], [(n, "c") for n in tickets])
    number, waits = free_slot(
        found, "incoming", limit, by="a", stale=(), ticket=None, ignore_tickets=False
    )
    if number is not None:
        assert number not in slots
        assert len(slots) < limit
        assert not waits
    else:
        assert waits == (len(slots) < limit)
    stale = {notice.uuid for notice in found.notices}
    free = free_slot(found, "incoming", limit, by="a", stale=stale, ticket=None,
                     ignore_tickets=False)  # fmt: skip
    assert free == (1, False)
    assert next_ticket(found, "incoming") > max(tickets, default=0)
    assert lowest_free(slots) not in slots
