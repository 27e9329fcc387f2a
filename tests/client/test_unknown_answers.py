"""The answer `unknown` of a daemon that could not read a task: which request it fails."""

import threading

import pytest

from fastlib.client import NoResultError, NotUnderstoodError
from fastlib.message.node import Progress
from tests.support.client.factory import PATIENCE, ClientFactory, success
from tests.support.client.timeouts import expire_all

UNKNOWN = """\
---
result: unknown
list:
  - vm-name: unknown
    status: error
    details: bad conversion
"""


def test_unknown_with_id_fails_that_request(hosts):
    client, daemon = hosts
    one, two = client.suspend("hostA", "vm1"), client.suspend("hostA", "vm2")
    daemon.wait(2)
    daemon.say(UNKNOWN + f"id: {two.id}\n---")
    with pytest.raises(
        NotUnderstoodError, match=r"bad conversion.*it may belong to another message"
    ) as caught:
        two.result(PATIENCE)
    assert not caught.value.certain  # others know the id, too
    assert not one.done()


def test_unknown_without_id_fails_the_only_request(hosts):
    client, daemon = hosts
    handle = client.suspend("hostA", "vm1")
    daemon.wait()
    daemon.say(UNKNOWN)
    with pytest.raises(NotUnderstoodError, match="no id") as caught:
        handle.result(PATIENCE)
    assert not caught.value.certain
    assert caught.value.details == "bad conversion"


def test_unknown_without_id_is_noted_for_several_requests(hosts, monkeypatch):
    client, daemon = hosts
    one = client.suspend("hostA", "vm1")
    two = client.suspend("hostA", "vm2")
    daemon.wait(2)
    daemon.say(UNKNOWN)
    daemon.send(success(daemon.received[1]))
    assert two.result(PATIENCE).status == "success"
    expire_all(client, monkeypatch)
    with pytest.raises(
        NoResultError, match="without an id, that it cannot read a message: bad conversion"
    ):
        one.result(PATIENCE)


def test_unknown_for_another_client_is_ignored(clients: ClientFactory):
    client, a = clients.client(), clients.daemon("hostA")
    b = clients.daemon("hostB")
    handle = client.suspend("hostB", "vm1")
    b.wait()
    a.say(UNKNOWN)
    b.say(UNKNOWN + "id: somebody-else\n")
    b.send(success(b.received[0]))
    assert handle.result(PATIENCE).status == "success"


def test_request_with_progress_is_not_failed_by_unknown(hosts, monkeypatch):
    client, daemon = hosts
    seen: list[Progress] = []
    came = threading.Event()

    def on_progress(progress: Progress) -> None:
        seen.append(progress)
        came.set()

    handle = client.migrate("vm1", "hostA", "hostB", on_progress=on_progress)
    other = client.suspend("hostA", "vm2")
    daemon.wait(2)
    daemon.progress("id: somebody-else\nvm-name: vm1\nphase: memory\n")
    daemon.progress(f"id: {handle.id}\nvm-name: vm1\nphase: memory\npercent: 40\n")
    assert came.wait(PATIENCE)
    assert [(p.phase, p.percent) for p in seen] == [("memory", 40)]
    assert handle.progress == seen[0]
    daemon.say(UNKNOWN)  # for the other request, as this one has reported progress
    with pytest.raises(NotUnderstoodError):
        other.result(PATIENCE)
    expire_all(client, monkeypatch)
    with pytest.raises(NoResultError, match="its daemon reported the phase 'memory'"):
        handle.result(PATIENCE)
