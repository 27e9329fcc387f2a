"""A client that a fork has copied, or that is pickled: only its own process may use it."""

import asyncio
import copy
import importlib
import pickle
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from inspect import isabstract
from typing import Any

import pytest

import fastlib
from fastlib import Result, TaskFailedError
from fastlib.client import (
    AsyncMigfraClient,
    ClientClosedError,
    ClientError,
    MigfraClient,
    NoResultError,
)
from fastlib.client.errors import HostOfflineError, NotUnderstoodError
from fastlib.codec.errors import FastlibError
from fastlib.transport import (
    ClientIdTakenError,
    ClosedError,
    ConnectError,
    ExpiredError,
    ForkedError,
    MemoryBroker,
    MemoryOptions,
    MessageTooLargeError,
    RefusedError,
    TopicError,
    Undelivered,
    UndeliveredError,
)
from tests.support.mosquitto import Mosquitto

FORKED = """
import os, sys, warnings
from fastlib.client import MigfraClient
from fastlib.transport import ForkedError, MqttOptions, WaitTimeoutError

warnings.simplefilter("ignore")  # newer Pythons warn of a fork beside threads
client = MigfraClient.connect(MqttOptions(host="127.0.0.1", port=int(sys.argv[1])))
communicator = client.communicator
communicator.subscribe("a/b")
pending = client.query("hostA")
calls = [
    lambda: client.query("hostB"),
    lambda: client.watch(),
    lambda: pending.result(),
    lambda: communicator.send(b"x", "a/b"),
    lambda: communicator.receive("a/b"),
    lambda: communicator.subscribe("a/c"),
    lambda: communicator.unsubscribe("a/b"),
    lambda: communicator.resend_retained("a/b"),
]
child = os.fork()
if child == 0:
    said = []
    try:
        with client:
            for call in calls:
                try:
                    call()
                except ForkedError as error:
                    said.append(str(error))
    finally:
        print(len(said), len(set(said)), said[-1], flush=True)
        os._exit(0)
os.waitpid(child, 0)
communicator.send(b"of the parent", "a/b")
print(communicator.receive("a/b", 60).payload.decode())
assert not pending.done()
client.close()
"""


def test_forked_process_gets_an_error_at_once_and_the_parent_goes_on(mosquitto: Mosquitto) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FORKED, str(mosquitto.port)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    child, parent = ended.stdout.splitlines()
    assert child.startswith("8 1 fastlib")
    assert child.endswith("connect in each process, after the fork")
    assert parent == "of the parent"
    assert not ended.stderr


@pytest.fixture
def client() -> Iterator[MigfraClient]:
    with MigfraClient.connect(MemoryOptions(broker=MemoryBroker()), clock_tolerance=0) as client:
        yield client


@pytest.mark.parametrize("change", [copy.copy, copy.deepcopy, pickle.dumps])
def test_owners_of_a_connection_are_not_copied(
    client: MigfraClient, change: Callable[[object], object]
) -> None:
    for owner in (client, client.communicator, client.query("hostA")):
        remedy = f"^a {type(owner).__name__} cannot be pickled or copied, .* connect in each"
        with pytest.raises(TypeError, match=remedy):
            change(owner)


def all_errors() -> set[type[FastlibError]]:
    """Return the errors of the modules `errors`, and those that are imported anyway."""
    for module in pkgutil.walk_packages(fastlib.__path__, "fastlib."):
        if module.name.endswith(".errors"):
            importlib.import_module(module.name)
    found: set[type[FastlibError]] = set()
    waiting: list[type[FastlibError]] = [FastlibError]
    while waiting:
        kind = waiting.pop()
        if kind not in found and kind.__module__.startswith("fastlib."):
            found.add(kind)
            waiting += kind.__subclasses__()
    return {kind for kind in found if not isabstract(kind)}


UNSENT = Undelivered("a/b", 1, 3, sent=True)


def examples(client: MigfraClient) -> Iterator[FastlibError]:
    with pytest.raises(NoResultError) as caught:
        client.suspend("hostA", "vm1", timeout=0.01).result()
    yield caught.value
    request = caught.value.request
    yield NotUnderstoodError(request, "why", certain=False)
    yield HostOfflineError("hostA")
    closed = ClosedError("closed", ZeroDivisionError("inner"))
    yield closed
    yield ClientClosedError(closed, request)
    yield TaskFailedError([Result(vm_name="vm1", status="error")], host="hostA", id="7")
    yield TopicError("a/#", "is wrong")
    yield ConnectError("not there", OSError(111, "Connection refused"))
    yield RefusedError("refused", 0x87)
    yield ClientIdTakenError("me", True)
    yield UndeliveredError([UNSENT], "why")
    yield ExpiredError(UNSENT, 3.0)
    yield MessageTooLargeError(UNSENT, 9, 5, "broker")
    yield ForkedError("me", 1, 2)


def facts(error: FastlibError) -> dict[str, Any]:
    return {name: str(value) for name, value in vars(error).items()}


def test_errors_can_be_pickled_with_their_facts(client: MigfraClient) -> None:
    # Else a worker of a process pool cannot report them: its caller gets a TypeError of pickle.
    for error in examples(client):
        for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(again) is type(error)
            assert str(again) == str(error)
            assert facts(again) == facts(error)


def test_pickled_error_has_the_order(client: MigfraClient) -> None:
    with pytest.raises(NoResultError) as caught:
        client.suspend("hostA", "vm1", timeout=0.01).result()
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.request.container == caught.value.request.container
    assert not again.request.listeners
    assert again.request.future.done()


def test_no_error_replaces_the_way_in_which_errors_are_pickled() -> None:
    kinds = all_errors()
    assert {NoResultError, MessageTooLargeError, TaskFailedError} <= kinds
    for kind in kinds:
        assert kind.__reduce__ is FastlibError.__reduce__, kind
        # Not by a constructor: many of these have other arguments than their texts.
        again = pickle.loads(pickle.dumps(_bare(kind)))
        assert type(again) is kind


def _bare(kind: type[FastlibError]) -> FastlibError:
    error = kind.__new__(kind)
    error.args = ("text", ())
    return error


def test_client_for_coroutines_refuses_another_event_loop() -> None:
    async def connected() -> AsyncMigfraClient:
        return await AsyncMigfraClient.connect(MemoryOptions(broker=MemoryBroker()))

    async def used(client: AsyncMigfraClient) -> None:
        for call in (client.query("hostA"), client.watch()):
            with pytest.raises(ClientError, match="opened in another event loop"):
                await call
        await client.close()

    asyncio.run(used(asyncio.run(connected())))
