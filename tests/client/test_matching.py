"""Which answers belong to a request, though others may use its id."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from fastlib import Start, Suspend, TaskContainer
from fastlib.client import NotUnderstoodError, UnexpectedResultError
from fastlib.client.ids import new_id
from fastlib.client.matching import is_certain, match
from fastlib.client.request import PendingRequest
from fastlib.clock import SYSTEM_CLOCK
from fastlib.message.request_digest import request_digest
from tests.support.client.factory import PATIENCE, ClientFactory, success
from tests.support.waiting import wait_until


def request(*, sent_before: bool = False) -> PendingRequest:
    container = TaskContainer(tasks=[Start(vm_name="vm1")], id="1", idempotency_key="key")
    return PendingRequest("hostA", container, None, SYSTEM_CLOCK, sent_before=sent_before)


@pytest.mark.parametrize(
    ("key", "digest", "found"),
    [
        (None, None, "possible"),  # of a C++ or an older daemon
        ("key", None, "proven"),
        ("key", "other", "other"),  # somebody else's, refused
        ("key", "own", "proven"),
        (None, "own", "proven"),
        (None, "other", "other"),
        ("another", None, "other"),
        ("another", "other", "other"),
        ("another", "own", "proven"),
    ],
)
def test_key_or_digest_proves_to_whom_an_answer_belongs(
    key: str | None, digest: str | None, found: str
) -> None:
    mine = request()
    assert match(mine, key, request_digest(mine.payload) if digest == "own" else digest) == found


@pytest.mark.parametrize(
    ("change", "found", "certain"),
    [
        (lambda mine: None, "proven", True),
        (lambda mine: None, "possible", False),
        (lambda mine: setattr(mine, "understood", True), "proven", False),
        (lambda mine: setattr(mine, "repeated", True), "proven", False),
        (lambda mine: setattr(mine, "sent_before", True), "proven", False),
    ],
)
def test_only_the_proven_answer_to_the_only_copy_without_progress_is_certain(
    change: Callable[[PendingRequest], object], found: Any, certain: bool
) -> None:
    mine = request()
    change(mine)
    assert is_certain(mine, found) == certain


def test_digest_is_the_beginning_of_the_sha_256_of_the_bytes() -> None:
    assert request_digest(b"task: quit\n") == "68632a1e0676b4d1d6d6c3865528d867"


def test_ids_are_short_and_unguessable() -> None:
    ids = [new_id() for _ in range(1000)]
    assert all(re.fullmatch("[a-z2-7]{26}", id) for id in ids)
    assert len({id[:8] for id in ids}) == len(ids)
    assert len({id[-8:] for id in ids}) == len(ids)


def test_requests_of_one_client_have_ids_without_a_common_beginning(clients: ClientFactory) -> None:
    client = clients.client()
    ids = {client.suspend("hostA", "vm1").id for _ in range(50)}
    assert len({id[:8] for id in ids}) == 50


UNREADABLE = "result: unknown\nlist: [{vm-name: unknown, status: error, details: bad text}]\n"


def test_answer_to_another_message_with_the_same_id_is_ignored(clients: ClientFactory) -> None:
    client, daemon = clients.client(), clients.daemon()
    handle = client.suspend("hostA", "vm1")
    (container,) = daemon.wait()
    other = f"id: {handle.id}\nrequest-digest: {request_digest(b'another')}\n"
    daemon.say(UNREADABLE + other)
    daemon.say(UNREADABLE + f"request-digest: {request_digest(b'another')}\n")
    daemon.say("result: vm stopped\nlist: [{vm-name: a, status: success}]\n" + other)
    daemon.say("result: vm suspended\nlist: [{vm-name: a, status: error}]\n" + other)
    daemon.progress(f"phase: memory\n{other}")
    daemon.send(success(container))
    assert handle.result(PATIENCE).status == "success"
    assert handle.progress is None


@pytest.mark.parametrize(
    ("sent", "answered"),
    [("1", "id: '1'\n"), ("1", ""), ("x" * 257, f"id: {'x' * 64}… (sha256 0123456789abcdef)\n")],
)
def test_answer_that_names_the_message_is_certain(
    clients: ClientFactory, sent: str, answered: str
) -> None:
    """The daemon may have lost the id, and abbreviates one that is too long."""
    client, daemon = clients.client(), clients.daemon()
    handle = client.suspend("hostA", "vm1", id=sent)
    (container,) = daemon.wait()
    digest = request_digest(container.to_yaml().encode())
    daemon.say(f"{UNREADABLE}{answered}request-digest: {digest}\n")
    with pytest.raises(NotUnderstoodError, match=r"bad text$") as caught:
        handle.result(PATIENCE)
    assert caught.value.certain


@pytest.mark.parametrize("proven", [True, False])
def test_unreadable_is_never_certain_after_progress(clients: ClientFactory, proven: bool) -> None:
    client, daemon = clients.client(), clients.daemon()
    seen: list[Any] = []
    handle = client.submit("hostA", Suspend(vm_name="vm1"), on_progress=seen.append)
    (container,) = daemon.wait()
    daemon.progress(f"id: {handle.id}\nphase: memory\n")
    wait_until(lambda: seen, "the progress")
    digest = request_digest(container.to_yaml().encode())
    proof = f"request-digest: {digest}\n" if proven else ""
    daemon.say(f"{UNREADABLE}id: {handle.id}\n{proof}")
    if proven:
        with pytest.raises(NotUnderstoodError, match="progress of this order earlier") as caught:
            handle.result(PATIENCE)
        assert not caught.value.certain
    else:
        daemon.send(success(container))
        assert handle.result(PATIENCE).results[0].status == "success"


def test_wrong_title_without_proof_says_that_another_order_may_be_meant(
    clients: ClientFactory,
) -> None:
    client, daemon = clients.client(), clients.daemon()
    handle = client.suspend("hostA", "vm1")
    daemon.wait()
    daemon.say(f"result: vm stopped\nlist: [{{vm-name: a, status: success}}]\nid: {handle.id}")
    with pytest.raises(UnexpectedResultError, match="may belong to another order with the same id"):
        handle.result(PATIENCE)
