"""Messages of a host that are too large are dropped unread, and no host delays another one."""

import threading
from collections.abc import Callable

import pytest

from fastlib import Result, ResultContainer
from fastlib.client import MigfraClient
from fastlib.client.message_sizes import (
    LARGEST,
    MAX_QUEUED,
    READ_AT_ONCE,
    ResultReader,
    SizeCheck,
)
from fastlib.message.node import Presence
from fastlib.message.topics import PRESENCE, PROGRESS, RESULT
from fastlib.transport import MemoryBroker, MemoryOptions, ReceivedMessage, connect
from fastlib.transport.messages import InboundMessage
from tests.support.waiting import wait_until

LARGE = b"x" * (READ_AT_ONCE + 1)


def message(host: str, payload: bytes, size: int | None = None) -> ReceivedMessage:
    inbound = InboundMessage(RESULT(host), payload, 1, False, False, print, size=size)
    return ReceivedMessage(inbound, 1, None)


@pytest.mark.parametrize("topic", [PRESENCE, PROGRESS, RESULT])
def test_large_message_is_dropped_with_one_warning_for_each_host(
    topic: object, caplog: pytest.LogCaptureFixture
) -> None:
    check = SizeCheck()
    most = LARGEST[topic]  # type: ignore[index]
    assert not check.is_too_large(topic, "a", message("a", b"", most))  # type: ignore[arg-type]
    for host in ("a", "a", "b"):
        assert check.is_too_large(topic, host, message(host, b"", most + 1))  # type: ignore[arg-type]
    assert len(caplog.records) == 2


class Reader:
    """A result reader that waits before it reads a result of the host `slow`."""

    def __init__(self, deliver: Callable[[Callable[[], None]], None] | None = None) -> None:
        self.go = threading.Event()
        self.reading = threading.Event()
        self.handled: list[bytes] = []
        self.threads: set[str] = set()
        self.reader = ResultReader(self._read, deliver or (lambda handle: handle()))

    def _read(self, received: ReceivedMessage) -> Callable[[], None]:
        self.threads.add(threading.current_thread().name)
        if received.topic == RESULT("slow"):
            self.reading.set()
            assert self.go.wait(60)
        return lambda: self.handled.append(received.payload[:5])

    def put(self, host: str, payload: bytes) -> None:
        self.reader.put(host, message(host, payload))


def test_large_result_of_a_host_does_not_delay_another_host() -> None:
    reader = Reader()
    reader.put("slow", b"slow1" + LARGE)
    assert reader.reading.wait(60)
    reader.put("slow", b"slow2")
    reader.put("quick", b"quick")
    assert reader.handled == [b"quick"]  # it was handled at once, in this thread
    reader.put("slow", b"slow3" + LARGE)
    reader.go.set()
    wait_until(lambda: len(reader.handled) == 4, lambda: str(reader.handled), 30)
    assert reader.handled == [b"quick", b"slow1", b"slow2", b"slow3"]
    wait_until(lambda: not reader.reader._left, lambda: "all are handled", 30)
    reader.put("slow", b"after")
    assert reader.handled[-1] == b"after"
    assert reader.threads == {"fastlib results", threading.current_thread().name}


def test_hosts_with_large_results_take_turns() -> None:
    reader = Reader()
    reader.put("slow", b"slow1" + LARGE)
    assert reader.reading.wait(60)
    for number in range(3):
        reader.put("slow", b"many%d" % number + LARGE)
    reader.put("other", b"other" + LARGE)
    reader.go.set()
    wait_until(lambda: len(reader.handled) == 5, lambda: str(reader.handled), 30)
    assert reader.handled.index(b"other") == 2
    assert [p for p in reader.handled if p != b"other"] == [b"slow1", b"many0", b"many1", b"many2"]


def test_results_that_wait_are_bounded_for_each_host(caplog: pytest.LogCaptureFixture) -> None:
    reader = Reader()
    half = b"x" * (MAX_QUEUED // 2)
    reader.put("slow", half)
    assert reader.reading.wait(60)
    reader.put("slow", half)
    reader.put("slow", half)
    assert "a result is dropped" in caplog.text
    reader.reader.close()
    reader.go.set()
    wait_until(lambda: reader.handled, lambda: "the first is handled", 30)
    reader.put("slow", b"closed")
    assert len(reader.handled) == 1


def test_result_is_handled_before_the_next_one_of_its_host() -> None:
    """A small result comes between the reading of a large one and its handling elsewhere."""
    posted: list[Callable[[], None]] = []
    reader = Reader(posted.append)
    reader.put("a", b"first" + LARGE)
    wait_until(lambda: posted, lambda: "the first is read", 30)
    reader.put("a", b"later")
    wait_until(lambda: len(posted) == 2, lambda: "the second is read", 30)
    assert reader.handled == []
    for handle in posted:
        handle()
    assert reader.handled == [b"first", b"later"]


def test_client_reads_no_large_presence_and_large_results_in_a_thread() -> None:
    broker = MemoryBroker()
    with (
        connect(MemoryOptions(broker=broker)) as daemon,
        connect(MemoryOptions(broker=broker)) as communicator,
        MigfraClient(communicator) as client,
        client.watch() as watch,
    ):
        online = Presence(status="online", started=1.0, hypervisor="dummy", version="1")
        large = f"{online.to_yaml()}\n# {'x' * LARGEST[PRESENCE]}"
        daemon.send(large.encode(), PRESENCE("large"), retain=True)
        daemon.send(online.to_yaml().encode(), PRESENCE("small"), retain=True)
        wait_until(lambda: client.presences, "the small presence", 30)
        assert list(client.presences) == ["small"]
        results = [Result(vm_name=f"vm{number}", status="success") for number in range(2000)]
        answer = ResultContainer(result="vm started", results=results)
        daemon.send(answer.to_yaml().encode(), RESULT("small"))
        observed = watch.get(30)
        assert observed is not None
        assert observed.message == answer
        daemon.send(b"x" * (LARGEST[RESULT] + 1), RESULT("large"))
        daemon.send(b"result: quit\nlist: []\n", RESULT("small"))
        observed = watch.get(30)
        assert observed is not None
        assert (observed.host, len(observed.payload)) == ("small", 22)
