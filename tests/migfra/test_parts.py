"""The small parts of the daemon, each separately."""

import asyncio
import gc
import hashlib
import io
import json
import logging
import os
import socket
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from fastlib import PciAddress, Start, Stop, TaskContainer
from fastlib.message import topics
from fastlib.migfra import Context, RunningError, TaskCancelledError
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.thread_pool import ThreadPool
from fastlib.migfra.service.lock import InstanceLock, lock_path
from fastlib.migfra.service.memory import collect_rarely, return_large_blocks
from fastlib.migfra.service.systemd import notify
from fastlib.migfra.tasks.decoding import digest, digest_of, read
from fastlib.migfra.telemetry.logs import About, JsonFormatter, TextFormatter, about, task_log
from tests.support.migfra.bench import PATIENCE, Bench


def test_cancellation_calls_each_callback_once() -> None:
    cancellation = Cancellation()
    heard: list[str] = []
    cancellation.on_cancel(lambda: heard.append("first"))
    cancellation.on_cancel(lambda: heard.append("taken back"))()
    cancellation.on_cancel(lambda: 1 / 0)
    cancellation.on_cancel(lambda: heard.append("last"))
    cancellation.check()
    cancellation.cancel()
    cancellation.cancel()
    cancellation.on_cancel(lambda: heard.append("late"))
    assert heard == ["first", "last", "late"]
    with pytest.raises(TaskCancelledError):
        cancellation.check()


def test_cancellation_from_a_thread_wakes_a_coroutine() -> None:
    async def main() -> None:
        context = Context("node01")
        threading.Timer(0.01, context._cancellation.cancel).start()
        async with asyncio.timeout(PATIENCE):
            await context.wait_cancelled()
        assert context.cancelled
        await context.wait_cancelled()  # and at once from then on

    asyncio.run(main())


def test_context_works_without_a_daemon() -> None:
    context = Context("node01", id="7")
    context.progress("copy", percent=3)
    with context.measure("define"):
        assert context.save_state(a=1).result(0) is None
    with pytest.raises(TypeError):
        context.save_state(b=object())
    assert context.saved_state == {"a": 1}
    with pytest.raises(RuntimeError, match="no communicator"):
        _ = context.communicator
    with pytest.raises(RuntimeError, match="no loop"):
        context.send("topic", b"")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"vm1"}, "x must be None.*got a set; save a sorted list"),
        (frozenset("a"), "got a frozenset; save a sorted list"),
        (b"a", r"got a bytes; save a text, such as value.hex\(\)"),
        (bytearray(b"a"), "got a bytearray; save a text"),
        (datetime(2026, 1, 1, tzinfo=UTC), "got a datetime"),
        (Path("a"), "got a PosixPath"),
        (float("nan"), "got nan"),
        (float("inf"), "got inf"),
        ([1, {"a": [b"x"]}], r"x\[1\]\['a'\]\[0\] must be .*got a bytes"),
        ({1: "a"}, "a key of x must be a text; got 1"),
        (PciAddress(bus=1, device=2, function=3), "got a PciAddress"),
    ],
)
def test_state_that_would_come_back_as_something_else_is_refused(value: Any, said: str) -> None:
    context = Context("node01")
    with pytest.raises(TypeError, match=said):
        context.save_state(good=1, x=value)
    assert context.saved_state == {}


@pytest.mark.parametrize(
    "value", [None, True, 1, -1.5, "a", [], {}, [1, [2, {"a": None}]], {"a": {"b": [True]}}]
)
def test_state_that_json_has_is_saved(value: Any) -> None:
    context = Context("node01")
    context.save_state(x=value)
    assert msgspec.json.decode(msgspec.json.encode(context.saved_state["x"])) == value


def test_thread_pool_is_bounded_and_keeps_order() -> None:
    threads = ThreadPool(2, "test")
    begun, go, names = threading.Semaphore(0), threading.Event(), []

    def work(number: int) -> int:
        begun.release()
        go.wait(PATIENCE)
        names.append(threading.current_thread().name)
        return number

    futures = [threads.run(work, number) for number in range(20)]
    assert begun.acquire(timeout=PATIENCE)
    assert begun.acquire(timeout=PATIENCE)
    assert not begun.acquire(blocking=False)
    go.set()
    assert [future.result(PATIENCE) for future in futures] == list(range(20))
    assert len(set(names)) <= 2
    with pytest.raises(ZeroDivisionError):
        threads.run(lambda: 1 / 0).result(PATIENCE)
    threads.close()
    with pytest.raises(RuntimeError):
        threads.run(print)


@pytest.fixture
def lines() -> io.StringIO:
    return io.StringIO()


def _logger(lines: io.StringIO, formatter: logging.Formatter) -> logging.Logger:
    logger = logging.Logger("fastlib.test", logging.DEBUG)
    handler = logging.StreamHandler(lines)
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    return logger


def test_text_log_names_the_task_and_escapes_control_characters(lines: io.StringIO) -> None:
    logger = _logger(lines, TextFormatter())
    logger.info("without a task")
    token = about.set(About("7", "vm1"))
    logger.warning("evil\n2026-01-01 INFO [-] forged \x1b[2J")
    about.reset(token)
    task_log(logger, "8\n", None).error("explicitly")
    task_log(logger, "9" * 10_000, "vm").info("is long")
    try:
        raise ValueError("two\nlines \x1b[2J")
    except ValueError:
        logger.exception("with a traceback")
    first, second, third, long, fourth, *rest = lines.getvalue().splitlines()
    assert first.endswith(" INFO [- - -] without a task")
    assert second.endswith(r"WARNING [- 7 vm1] evil\n2026-01-01 INFO [-] forged \x1b[2J")
    assert third.endswith(r'ERROR [- "8\u000a" -] explicitly')
    assert len(long) < 300
    assert fourth.endswith("with a traceback")
    assert "\x1b" not in lines.getvalue()
    assert rest
    assert all(line.startswith("  ") for line in rest)


def test_json_log_has_all_fields(lines: io.StringIO) -> None:
    logger = _logger(lines, JsonFormatter())
    token = about.set(About("7", None))
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("text %s", "é\n")
    about.reset(token)
    line = json.loads(lines.getvalue())
    assert (line["id"], line["vm-name"], line["level"]) == ("7", None, "error")
    assert line["message"] == "text é\n"
    assert "ValueError" in line["traceback"]
    assert lines.getvalue().count("\n") == 1


def test_lock_admits_one_process(tmp_path: Path) -> None:
    path = tmp_path / "run" / "lock"
    with InstanceLock(path), pytest.raises(RunningError) as raised:
        InstanceLock(path)
    assert raised.value.pid == os.getpid()
    InstanceLock(path).release()


def test_lock_does_not_follow_links(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        InstanceLock(tmp_path / "lock")
    assert victim.read_text() == "precious"


def test_lock_depends_on_configuration_and_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    other = tmp_path / "other.yaml"
    other.symlink_to(one)
    assert lock_path(one, "a") == lock_path(other, "a")
    assert len({lock_path(one, "a"), lock_path(two, "a"), lock_path(one, "b")}) == 3


def test_journal_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    asyncio.run(Journal(tmp_path / "journal").close())
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o600


def test_digest_ignores_the_spelling() -> None:
    plain = read(b"task: start vm\nvm-configurations:\n  - vm-name: a\n", 100)
    flow = read(b"{vm-configurations: [{vm-name: 'a'}], task: start vm}\n---\nmore", 100)
    other = read(b"task: start vm\nvm-configurations:\n  - vm-name: b\n", 100)
    assert isinstance(plain, TaskContainer)
    assert isinstance(flow, TaskContainer)
    assert isinstance(other, TaskContainer)
    assert digest(plain) == digest(flow) != digest(other)


def test_digest_leaves_the_expiry_out_and_the_container_as_it_is() -> None:
    order = TaskContainer(tasks=[Stop(vm_name="vm1")], expires=datetime(2027, 1, 1, tzinfo=UTC))
    later = msgspec.structs.replace(order, expires=datetime(2028, 1, 1, tzinfo=UTC))
    assert digest(order) == digest(later) == digest(msgspec.structs.replace(order, expires=None))
    assert order.expires == datetime(2027, 1, 1, tzinfo=UTC)


def test_payload_of_an_order_has_the_digest_of_its_container() -> None:
    order = TaskContainer(tasks=[Stop(vm_name="vm1")], id="1")
    assert digest_of(order.to_yaml().encode()) == digest(order)
    unreadable = b"task: of an older fastlib"
    assert digest_of(unreadable) == hashlib.sha256(unreadable).digest()


def test_retained_task_is_not_executed(tmp_path: Path) -> None:
    async def main() -> None:
        async with Bench(tmp_path) as bench:
            container = TaskContainer(tasks=[Start(vm_name="vm1")])
            payload = container.to_yaml().encode()
            await bench.scheduler.send(payload, topics.TASK("node01"), retain=True)
            daemon = await bench.daemon()
            await bench.no_result()
            assert daemon.counters.messages["retained"] == 1
            await bench.scheduler.send(payload, topics.TASK("node01"), retain=True)
            assert (await bench.result()).result == "vm started"

    asyncio.run(main())


@pytest.mark.parametrize("abstract", [False, True])
def test_state_is_sent_to_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = f"@fastlib-{tmp_path.name}-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name.replace("@", "\0"))
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        notify("READY=1")
        assert systemd.recv(100) == b"READY=1"
        monkeypatch.delenv("NOTIFY_SOCKET")
        notify("STOPPING=1")  # nobody has asked for it
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
        notify("STOPPING=1")  # nobody listens
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):
            systemd.recv(100)


def test_large_blocks_are_given_back_only_where_glibc_can(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def mallopt(option: int, value: int) -> int:
        calls.append((option, value))
        return 1

    library = SimpleNamespace(mallopt=mallopt)
    monkeypatch.setattr("fastlib.migfra.service.memory.ctypes.CDLL", lambda _: library)
    assert return_large_blocks()
    assert calls == [(-3, 128 << 10)]
    monkeypatch.setattr("fastlib.migfra.service.memory.ctypes.CDLL", lambda _: SimpleNamespace())
    assert not return_large_blocks()


def test_python_searches_cycles_rarely_and_skips_existing_objects() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        collect_rarely()
        assert gc.get_threshold() == (10_000, *before[1:])
        assert gc.get_freeze_count() > frozen
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
