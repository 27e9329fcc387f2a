"""Tests of the scheduler's client for threads and for coroutines, in memory and over MQTT."""

import gc
import queue
import random
import threading
import weakref
from typing import Any, get_type_hints

import pytest

from fastlib import (
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    Result,
    Start,
    Stop,
    Suspend,
    SwapWith,
    Task,
    TaskContainer,
    ValidationError,
)
from fastlib.client import (
    ClientClosedError,
    ClientError,
    IdTakenError,
    MigfraClient,
    NoResultError,
    UnexpectedResultError,
    options,
)
from fastlib.message import (
    Cancel,
    Evacuate,
    HistoryResult,
    MigrationResult,
    Query,
    QueryHistory,
    Quit,
    Repin,
    Resume,
)
from fastlib.message.node import NodeResult, Progress
from fastlib.transport import (
    EmbeddedBroker,
    MemoryBroker,
    MemoryOptions,
    MqttOptions,
    RefusedError,
    WaitTimeoutError,
    connect,
)
from tests.support.client.factory import (
    IN_MEMORY,
    PATIENCE,
    ClientFactory,
    Daemon,
    failure,
    success,
)
from tests.support.client.timeouts import expire_all, possible_answers
from tests.support.client.unanswered import SENT_BEFORE
from tests.support.mosquitto import Mosquitto
from tests.support.waiting import wait_until


def test_submit_returns_handle_with_result(hosts):
    client, daemon = hosts
    daemon.answers()
    handle = client.submit("hostA", TaskContainer(tasks=[Stop(vm_name="a"), Stop(vm_name="b")]))
    results = handle.result(PATIENCE)
    assert [result.vm_name for result in results.results] == ["a", "b"]
    assert results.id == handle.id == daemon.received[0].id
    assert handle.host == "hostA"
    assert handle.container == daemon.received[0]
    assert handle.done()
    assert "answered" in repr(handle.inner if hasattr(handle, "inner") else handle)


WORDS = [
    (("start", "hostA", "vm1"), {"memory": 1024}, Start(vm_name="vm1", memory=1024)),
    (("start", "hostA"), {"xml": "<domain/>"}, Start(xml="<domain/>")),
    (("stop", "hostA", "vm1"), {"force": True}, Stop(vm_name="vm1", force=True)),
    (("stop", "hostA"), {"regex": "vm.*"}, Stop(regex="vm.*")),
    (("suspend", "hostA", "vm1"), {}, Suspend(vm_name="vm1")),
    (("resume", "hostA", "vm1"), {"driver": "qemu"}, Resume(vm_name="vm1", driver="qemu")),
    (("repin", "hostA", "vm1", [[0], [1]]), {}, Repin(vm_name="vm1", vcpu_map=[[0], [1]])),
    (
        ("migrate", "vm1", "hostA", "hostB"),
        {},
        Migrate(vm_name="vm1", destination="hostB"),
    ),
    (
        ("migrate", "vm1", "hostA", "hostB"),
        {"migration_type": "live", "swap_with": "vm2", "time_measurement": True},
        Migrate(
            vm_name="vm1",
            destination="hostB",
            time_measurement=True,
            parameter=MigrateParameter(migration_type="live", swap_with=SwapWith(vm_name="vm2")),
        ),
    ),
    (
        ("migrate", "vm1", "hostA", "hostB"),
        {"migration_timeout": 7, "on_timeout": "abort"},
        Migrate(
            vm_name="vm1",
            destination="hostB",
            parameter=MigrateParameter(timeout=7, on_timeout="abort"),
        ),
    ),
    (
        ("evacuate", "hostA", ["hostB", "hostC"]),
        {"mode": "compact", "migration_type": "live"},
        Evacuate(
            destinations=["hostB", "hostC"],
            parameter=EvacuateParameter(mode="compact", migration_type="live"),
        ),
    ),
    (("query", "hostA"), {}, Query()),
    (
        ("history", "hostA"),
        {"order_id": "x-1", "key": "k", "vm_name": "vm1", "limit": 5},
        QueryHistory(order_id="x-1", key="k", vm_name="vm1", limit=5),
    ),
    (("cancel", "hostA", "some-id"), {}, Cancel(id="some-id")),
    (("quit", "hostA"), {}, Quit()),
]


@pytest.mark.parametrize(("call", "named", "task"), WORDS)
def test_method_sends_its_task(hosts, call: tuple[Any, ...], named: dict[str, Any], task: Task):
    client, daemon = hosts
    daemon.answers()
    method, *arguments = call
    result = getattr(client, method)(*arguments, **named).result(PATIENCE)
    assert list(daemon.received[0].tasks) == [task]
    several = "regex" in named or method == "evacuate"
    (one,) = result if several else (result,)
    kinds = {
        "query": NodeResult,
        "history": HistoryResult,
        "migrate": MigrationResult,
        "evacuate": MigrationResult,
    }
    assert type(one) is kinds.get(method, Result)
    assert one.status == "success"


def test_every_task_has_a_method():
    from fastlib.message.task import declarations

    own = {d.type for d in declarations() if d.type.__module__.startswith("fastlib.")}
    assert {type(task) for _, _, task in WORDS} == own


SENDING = get_type_hints(options.SubmitOptions).keys()


@pytest.mark.parametrize(
    ("typed", "structs", "positional"),
    [
        (options.StartOptions, [Start], {"vm_name"}),
        (options.StopOptions, [Stop], {"vm_name", "regex"}),
        (options.TaskOptions, [Suspend], {"vm_name"}),
        (options.HistoryOptions, [QueryHistory], set()),
        (
            options.MigrateOptions,
            [Migrate, MigrateParameter],
            {"vm_name", "destination", "parameter"},
        ),
        (
            options.EvacuateOptions,
            [Evacuate, EvacuateParameter],
            {"destinations", "parameter", "vm_name"},
        ),
    ],
)
def test_keywords_are_the_fields_of_the_message(
    typed: Any, structs: list[Any], positional: set[str]
):
    fields = [name for struct in structs for name in struct.__struct_fields__]
    expected = set(fields) - positional
    given = set(get_type_hints(typed)) - SENDING
    if "timeout" in expected:  # the client's own timeout has that name
        expected = expected - {"timeout"} | {"migration_timeout"}
    assert given == expected


def test_failed_task_has_a_result(hosts):
    client, daemon = hosts
    daemon.answers(failure)
    result = client.suspend("hostA", "vm1").result(PATIENCE)
    assert (result.status, result.details) == ("error", "no such domain")


@pytest.mark.parametrize("number", [200, pytest.param(600, marks=pytest.mark.load)])
def test_many_requests_are_answered_in_any_order(clients: ClientFactory, number: int):
    client, daemon = clients.client(timeout=None), clients.daemon()
    handles = [client.resume("hostA", f"vm{n}") for n in range(number)]
    assert not any(handle.done() for handle in handles)
    asked = daemon.wait(number)
    random.Random(1).shuffle(asked)
    for container in asked:
        daemon.send(success(container))
    for n, handle in enumerate(handles):
        assert handle.result(PATIENCE).vm_name == f"vm{n}"


def test_result_is_assigned_by_host_and_id(clients: ClientFactory):
    a, b = clients.daemon("hostA"), clients.daemon("hostB")
    mine, other = clients.client(), clients.client()
    at_a = mine.suspend("hostA", "vm1", id="same")
    at_b = mine.suspend("hostB", "vm1", id="same")
    b.wait()
    b.answers()
    b.send(success(b.received[0]))
    assert at_b.result(PATIENCE).status == "success"
    stranger = other.suspend("hostA", "vm2")
    a.wait(2)
    a.send(success(a.received[1]))
    assert stranger.result(PATIENCE).vm_name == "vm2"
    assert not at_a.done()
    a.send(failure(a.received[0]))
    assert at_a.result(PATIENCE).status == "error"


def test_repeated_result_is_ignored(hosts):
    client, daemon = hosts
    handle = client.suspend("hostA", "vm1")
    (container,) = daemon.wait()
    daemon.send(success(container))
    daemon.send(failure(container))
    assert handle.result(PATIENCE).status == "success"
    assert client.suspend("hostA", "vm1", id=handle.id).id == handle.id  # it may be asked again


def test_missing_result_raises_error_with_details(hosts):
    client, daemon = hosts
    handle = client.migrate("vm1", "hostA", "hostB", timeout=SENT_BEFORE, id="lost")
    daemon.wait()
    with pytest.raises(NoResultError) as caught:
        handle.result(PATIENCE)
    within = f"within {SENT_BEFORE:g} s"
    for part in ("'migrate vm' of vm1 on 'hostA' (id 'lost')", within, "sent 20", "broker"):
        assert part in str(caught.value)
    assert caught.value.request.host == "hostA"
    assert isinstance(caught.value, TimeoutError)


def test_wait_timeout_keeps_request_pending(hosts):
    client, daemon = hosts
    handle = client.suspend("hostA", "vm1")
    with pytest.raises(WaitTimeoutError, match="'suspend vm' of vm1 on 'hostA'"):
        handle.result(0.05)
    (container,) = daemon.wait()
    daemon.send(success(container))
    assert handle.result(PATIENCE).status == "success"


@IN_MEMORY
def test_shorter_timeout_expires_first(hosts):
    client, _ = hosts
    ended = queue.SimpleQueue[str]()
    for name, timeout in (("endless", None), ("long", 60), ("middle", 0.4), ("short", 0.1)):
        handle = client.suspend("hostA", name, timeout=timeout)
        handle.add_done_callback(lambda _, name=name: ended.put(name))
    assert [ended.get(timeout=PATIENCE) for _ in range(2)] == ["short", "middle"]
    assert ended.empty()


def test_progress_listener_may_be_added_later(hosts):
    client, daemon = hosts
    came = threading.Event()
    handle = client.migrate("vm1", "hostA", "hostB")

    def failing(_: Progress) -> None:
        raise RuntimeError("a listener's own mistake")

    handle.on_progress(failing)
    handle.on_progress(lambda progress: came.set())
    daemon.wait()
    daemon.progress(f"id: {handle.id}\nvm-name: vm1\nphase: memory\n")
    assert came.wait(PATIENCE)
    daemon.send(success(daemon.received[0]))
    assert handle.result(PATIENCE).status == "success"


def test_cancel_sends_cancel_task(hosts):
    client, daemon = hosts
    handle = client.migrate("vm1", "hostA", "hostB")
    cancelled = handle.cancel()
    container, cancel = daemon.wait(2)
    assert list(cancel.tasks) == [Cancel(id=container.id)]
    daemon.send(failure(container))
    daemon.send(success(cancel))
    assert cancelled.result(PATIENCE).status == "success"
    assert handle.result(PATIENCE).status == "error"


def test_done_callback_gets_the_handle(hosts):
    client, daemon = hosts
    daemon.answers()
    done: list[Any] = []
    came = threading.Event()

    def callback(handle: Any) -> None:
        done.append(handle)
        came.set()

    handle = client.suspend("hostA", "vm1")
    handle.add_done_callback(callback)
    assert came.wait(PATIENCE)
    assert done[0].id == handle.id


def test_result_in_a_callback_is_refused(options):
    with MigfraClient.connect(options()) as client, connect(options()) as peer:
        daemon = Daemon("hostA", peer)
        errors: list[BaseException] = []
        came = threading.Event()

        def on_done(_: object) -> None:
            try:
                client.suspend("hostA", "vm2").result(PATIENCE)
            except ClientError as error:
                errors.append(error)
            came.set()

        handle = client.suspend("hostA", "vm1")
        handle.add_done_callback(on_done)
        daemon.wait()
        daemon.send(success(daemon.received[0]))
        assert came.wait(PATIENCE)
        assert "add_done_callback" in str(errors[0])


def test_unfitting_answers_raise_errors(hosts, monkeypatch):
    client, daemon = hosts
    other = client.suspend("hostA", "vm1")
    several = client.resume("hostA", "vm2")
    garbled = client.suspend("hostA", "vm3")
    daemon.wait(3)
    daemon.say(f"result: vm resumed\nlist: [{{vm-name: a, status: success}}]\nid: {other.id}")
    two = "{vm-name: a, status: success}, {vm-name: b, status: success}"
    daemon.say(f"result: vm resumed\nlist: [{two}]\nid: {several.id}")
    daemon.say(f"result: vm suspended\nlist: [{{vm-name: a, status: maybe}}]\nid: {garbled.id}")
    with pytest.raises(UnexpectedResultError, match=r"'suspend vm' of vm1.*'vm resumed'"):
        other.result(PATIENCE)
    with pytest.raises(UnexpectedResultError, match="expected one result, got 2"):
        several.result(PATIENCE)
    wait_until(lambda: possible_answers(garbled), "the unreadable answer")
    expire_all(client, monkeypatch)
    with pytest.raises(NoResultError, match=r"cannot be read.*expected one of success, error"):
        garbled.result(PATIENCE)


def test_invalid_requests_are_refused(hosts):
    client, _ = hosts
    client.suspend("hostA", "vm1", id="mine")
    with pytest.raises(IdTakenError, match="'mine'"):
        client.suspend("hostA", "vm2", id="mine")
    with pytest.raises(ValidationError, match="host"):
        client.suspend("host/A", "vm1")
    with pytest.raises(ValidationError, match="vm-name"):
        client.suspend("hostA", 7)
    with pytest.raises(ValidationError, match="one of live, warm, offline"):
        client.migrate("vm1", "hostA", "hostB", migration_type="lve")
    with pytest.raises(TypeError, match="either a name or a regex"):
        client.stop("hostA")
    with pytest.raises(TypeError, match="colour"):
        client.submit("hostA", Quit(), colour="red")


def test_refused_message_fails_the_request(tmp_path):
    """Only a broker of MQTT 5 reports the refusal."""
    rights = tmp_path / "rights"
    rights.write_text("topic readwrite fast/migfra/+/result\ntopic read fast/migfra/+/status\n")
    settings = (f"acl_file {rights}",)
    with Mosquitto(tmp_path / "broker", settings=settings) as broker:
        options = MqttOptions(host="127.0.0.1", port=broker.port, protocol="5")
        with (
            MigfraClient.connect(options) as client,
            pytest.raises(RefusedError, match="not authorized"),
        ):
            client.suspend("hostA", "vm1").result(PATIENCE)


def test_answered_requests_are_freed():
    broker = MemoryBroker()
    with (
        MigfraClient.connect(MemoryOptions(broker=broker)) as client,
        connect(MemoryOptions(broker=broker)) as peer,
    ):
        Daemon("hostA", peer).answers()
        first = client.suspend("hostA", "vm0")
        first.result(PATIENCE)
        request = weakref.ref(first._request.future)
        del first
        for n in range(300):
            client.suspend("hostA", f"vm{n}").result(PATIENCE)
        gc.collect()
        assert request() is None


def test_close_fails_pending_requests(hosts):
    client, _ = hosts
    handle, watch = client.suspend("hostA", "vm1"), client.watch()
    client.close()
    with pytest.raises(ClientClosedError, match="'suspend vm' of vm1 on 'hostA'"):
        handle.result(PATIENCE)
    with pytest.raises(ClientClosedError):
        client.suspend("hostA", "vm1")
    assert list(watch) == []
    client.close()


def test_close_keeps_communicator_open():
    broker = MemoryBroker()
    with connect(MemoryOptions(broker=broker)) as communicator:
        for _ in range(2):  # the second finds the topics free
            with (
                MigfraClient(communicator) as client,
                connect(MemoryOptions(broker=broker)) as peer,
            ):
                Daemon("hostA", peer).answers()
                assert client.quit("hostA").result(PATIENCE).status == "success"
        assert communicator.is_connected


def test_client_works_over_the_embedded_broker():
    with EmbeddedBroker(port=0) as broker:
        options = MqttOptions(host="127.0.0.1", port=broker.port)
        with MigfraClient.connect(options) as client, connect(options) as peer:
            Daemon("hostA", peer).answers()
            assert client.suspend("hostA", "vm1").result(PATIENCE).status == "success"


def test_each_container_has_its_own_random_idempotency_key(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.answers()
    for _ in range(3):  # the same id each time, as real schedulers do
        client.suspend("hostA", "vm1", id="constant").result()
    keys = {container.idempotency_key for container in daemon.received}
    assert len(keys) == 3
    assert all(key is not None and len(key) == 32 for key in keys)


def test_container_keeps_its_own_idempotency_key(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    daemon.answers()
    handle = client.suspend("hostA", "vm1")
    handle.result()
    again = client.submit("hostA", handle.container)
    again.result()
    first, second = daemon.received
    assert first == second == handle.container
