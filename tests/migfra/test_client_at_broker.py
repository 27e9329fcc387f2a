"""The client and `fastlib send` with `migfra`, a process that ends in between, and mosquitto."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from fastlib.client import (
    AsyncMigfraClient,
    Handle,
    HostOfflineError,
    MigfraClient,
    NoResultError,
    NotUnderstoodError,
)
from fastlib.message import Result, Start, TaskContainer
from fastlib.migfra import Daemon
from fastlib.migfra.config.sections import LimitsSection
from fastlib.transport import MqttOptions
from tests.support.client.unanswered import SENT_BEFORE
from tests.support.migfra.bench import configuration
from tests.support.migfra.program import Program, program
from tests.support.migfra.scheduler import forget
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.shell import address, run
from tests.support.waiting import wait_until

HOST = "node01"
TOLERANCE = 0.3


@pytest.fixture
def migfra(tmp_path: Path, broker: Mosquitto) -> Iterator[Program]:
    """A daemon that runs; each start of a domain waits until the file `gate` exists."""
    forget(broker)
    with program(tmp_path, broker.port, gate=tmp_path / "gate") as migfra:
        migfra.start()
        yield migfra


@pytest.fixture
def client(broker: Mosquitto) -> Iterator[MigfraClient]:
    options = MqttOptions(host="127.0.0.1", port=broker.port, retry_min=0.05)
    with MigfraClient.connect(options, timeout=PATIENCE, clock_tolerance=TOLERANCE) as client:
        yield client


def shown(client: MigfraClient, status: str) -> None:
    wait_until(
        lambda: HOST in client.presences and client.presences[HOST].status == status,
        f"the presence {status!r}",
    )


def failure_of(handle: Handle[Result]) -> NoResultError:
    with pytest.raises(NoResultError) as caught:
        handle.result(PATIENCE)
    return caught.value


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.load), signal.SIGKILL]
)
def test_order_to_a_daemon_that_is_away_is_never_begun(
    migfra: Program, client: MigfraClient, broker: Mosquitto, number: signal.Signals
) -> None:
    migfra.send(number)
    migfra.wait()
    shown(client, "offline")
    with pytest.raises(HostOfflineError):
        client.stop(HOST, "vm1", only_if_online=True)
    error = failure_of(client.stop(HOST, "vm1", timeout=0.1))
    assert error.outcome == "never begun"
    # Also for a client that learns of the daemon only by what the broker has retained.
    done = run("stop", "vm2", "--host", HOST, "--timeout", "0.1", env=address(broker))
    assert (done.returncode, "never begun" in done.stderr) == (3, True), done.stderr
    waiting = client.stop(HOST, "vm3")
    migfra.start()
    assert waiting.result(PATIENCE).status == "success"
    assert migfra.done() == ["begin vm3", "end vm3"]


@pytest.mark.parametrize("size", [2000, 300_000])
def test_order_above_the_bound_of_the_daemon_is_refused_at_once_and_with_certainty(
    broker: Mosquitto, size: int
) -> None:
    """The daemon keeps only the beginning of the larger one, which does not contain the id."""
    host, bound = "large", 1024
    options = MqttOptions(host="127.0.0.1", port=broker.port)

    async def scene() -> None:
        daemon = Daemon(
            configuration(hostname=host, limits=LimitsSection(payload=bound)),
            communicator=msgspec.structs.replace(
                options, client_id=host, persistent=True, max_payload=bound
            ),
            in_memory=True,
        )
        await daemon.open()
        async with await AsyncMigfraClient.connect(options) as client:
            order = TaskContainer(tasks=[Start(xml="x" * size)], id=f"an id\u0085{'i' * 90}")
            handle = await client.submit(host, order, timeout=None)
            with pytest.raises(NotUnderstoodError) as caught:
                await asyncio.wait_for(handle.result(), PATIENCE)
        await daemon.close()
        assert caught.value.certain
        assert f"at most {bound} bytes" in str(caught.value)

    asyncio.run(scene())


def test_order_that_takes_longer_than_the_timeout_has_begun(
    migfra: Program, broker: Mosquitto, tmp_path: Path
) -> None:
    # The daemon gets more time for the question about its journal than in other tests.
    with MigfraClient.connect(f"mqtt://127.0.0.1:{broker.port}") as client:
        shown(client, "online")
        # On a busy machine the order may expire on its way, or its daemon says so too late.
        error = None
        for timeout in (0.5, 5, 15, 60):
            name = f"vm-{timeout}-s"
            try:
                client.start(HOST, name, timeout=timeout).result(PATIENCE)
            except NoResultError as caught:
                error = caught
                if error.outcome == "begun":
                    break
        assert error is not None
        assert (error.outcome, "as its journal says" in error.reason) == ("begun", True), error
        assert [line for line in migfra.done() if name in line] == [f"begin {name}"]
        again = client.submit(HOST, error.request.container, timeout=PATIENCE)
        (tmp_path / "gate").touch()
        assert again.result(PATIENCE).results[0].status == "success"
        done = [line for line in migfra.done() if name in line]
        assert done == [f"begin {name}", f"end {name}"]


def test_order_of_a_killed_daemon_is_executed_once_and_answered_by_the_next_run(
    migfra: Program, client: MigfraClient, tmp_path: Path
) -> None:
    shown(client, "online")
    handle = client.start(HOST, "vm1")
    wait_until(lambda: migfra.done() == ["begin vm1"], "the begin")
    migfra.kill()
    shown(client, "offline")
    (tmp_path / "gate").touch()
    migfra.start()  # the client repeats its order to the new run
    assert handle.result(PATIENCE).status == "success"
    assert migfra.done() == ["begin vm1", "end vm1"]


def test_daemon_that_hangs_leaves_the_outcome_unknown(
    migfra: Program, client: MigfraClient
) -> None:
    shown(client, "online")
    migfra.send(signal.SIGSTOP)
    try:
        error = failure_of(client.stop(HOST, "vm1", timeout=SENT_BEFORE))
    finally:
        migfra.send(signal.SIGCONT)
    assert error.outcome == "unknown"
    assert f"fastlib log {error.request.id} --host {HOST}" in str(error)
    assert client.stop(HOST, "vm2").result(PATIENCE).status == "success"
    assert migfra.done() == ["begin vm2", "end vm2"]


def test_orders_with_one_id_are_each_executed(
    migfra: Program, client: MigfraClient, tmp_path: Path
) -> None:
    (tmp_path / "gate").touch()
    act: list[Callable[..., Handle[Result]]] = [client.start, client.stop]
    for number in range(6):
        assert act[number % 2](HOST, "vm1", id=":-)").result(PATIENCE).status == "success"
    assert migfra.done() == ["begin vm1", "end vm1"] * 6


@pytest.mark.parametrize("key", ["", "idempotency-key: once\n"])
def test_file_with_an_id_or_a_key_is_answered_from_the_journal(
    migfra: Program, broker: Mosquitto, tmp_path: Path, key: str
) -> None:
    file = tmp_path / "order.yaml"
    file.write_text(f"task: stop vm\nlist: [{{vm-name: vm1}}]\nid: mine\n{key}")
    arguments = ("send", HOST, str(file))
    first = run(*arguments, env=address(broker))
    assert (first.returncode, "journal" in first.stdout) == (0, False)
    migfra.terminate()
    migfra.start()
    again = run(*arguments, env=address(broker))
    assert again.returncode == 0
    assert "answered from the journal: executed at 20" in again.stdout
    assert again.stdout.rstrip().endswith("Z, not executed again")
    assert migfra.done() == ["begin vm1", "end vm1"]
    anew = run(*arguments, "--new-id", env=address(broker))
    assert (anew.returncode, "journal" in anew.stdout) == (0, False)
    assert migfra.done() == ["begin vm1", "end vm1"] * 2
