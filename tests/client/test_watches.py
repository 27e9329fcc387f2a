"""A watch shows all messages, and the presences of hosts."""

from functools import partial

from fastlib import (
    ResultContainer,
)
from fastlib.message.topics import PRESENCE, RESULT, TASK
from tests.support.client.factory import (
    PATIENCE,
    ClientFactory,
)
from tests.support.waiting import wait_until


def test_watch_shows_all_messages(clients: ClientFactory):
    watcher, client, daemon = clients.client(), clients.client(), clients.daemon()
    daemon.presence("online")
    # One that comes later would let the client send its task again.
    wait_until(lambda: client.presences, "the client knows the daemon")
    watch = watcher.watch(tasks=True, progress=True, presence=True)
    results = watcher.watch()
    daemon.answers()
    handle = client.suspend("hostA", "vm1")
    handle.result(PATIENCE)
    daemon.progress(f"id: {handle.id}\nvm-name: vm1\nphase: memory\n")
    daemon.say("result: [")
    seen = {}
    while len(seen) < 5:
        observed = next(watch)
        assert observed.host == "hostA"
        assert observed.time.utcoffset() is not None
        kind = type(observed.message).__name__
        seen[kind] = observed
    assert set(seen) == {
        "Presence", "TaskContainer", "ResultContainer", "Progress", "NoneType",
    }  # fmt: skip
    assert seen["TaskContainer"].topic == TASK("hostA")
    assert seen["NoneType"].payload == b"result: ["
    assert seen["NoneType"].error.problems[0].line == 1
    first = next(results)
    assert isinstance(first.message, ResultContainer)
    assert (first.topic, first.message.id) == (RESULT("hostA"), handle.id)
    watch.close()
    assert list(watch) == []


def test_new_watch_starts_with_known_presences(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    first = client.watch(presence=True)
    daemon.presence("online")
    assert next(first).message.status == "online"
    assert client.presences["hostA"].status == "online"
    later = client.watch(presence=True)
    assert next(later).message.status == "online"


def test_watch_reports_each_known_host_that_is_forgotten(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    watch, others = client.watch(presence=True), client.watch(hosts=["hostB"], presence=True)
    assert client.presence("hostA") is None
    delete = partial(daemon.communicator.send, b"", PRESENCE("hostA"), retain=True)
    delete().wait(PATIENCE)  # nobody knows the host
    daemon.presence("online")
    delete().wait(PATIENCE)
    daemon.presence("offline")
    online, forgotten, offline = (next(watch) for _ in range(3))
    assert [one.is_forgotten for one in (online, forgotten, offline)] == [False, True, False]
    assert (forgotten.host, forgotten.message, forgotten.error) == ("hostA", None, None)
    others.close()
    assert list(others) == []
