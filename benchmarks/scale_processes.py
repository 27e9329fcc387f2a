"""The processes of the benchmark `scale`: `daemons PORT HOST…` and `scheduler PORT`.

A process of daemons prints `ready` once all of them work. Their hypervisor does nothing, and their
journals are in memory: a disk that they shared would be all that is measured. A scheduler reads a
line of JSON with what to do, and prints a line with what it has measured. Both end with their
standard input.
"""

import asyncio
import json
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fastlib.client import Handle, MigfraClient
    from fastlib.message import Result
    from fastlib.message.node import Progress

AT_ONCE: Final = 20
"""Daemons that open at the same time."""
PROGRESS_SECONDS: Final = 0.001
"""So short that no report is left out, in small clusters as in large ones."""
PATIENCE: Final = 300.0
"""Seconds until an order fails."""


async def daemons(port: str, *hosts: str) -> None:
    """Run a daemon for each host."""
    from fastlib.migfra import Daemon, read_configuration

    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as opened:
        for first in range(0, len(hosts), AT_ONCE):
            some = [
                Daemon(
                    read_configuration(
                        f"hostname: {host}\n"
                        f"communicator: {{host: 127.0.0.1, port: {port}, qos: 2}}\n"
                        "hypervisor: {type: dummy}\n"
                        f"progress-interval: {PROGRESS_SECONDS}\n"
                    ),
                    in_memory=True,
                )
                for host in hosts[first : first + AT_ONCE]
            ]
            for each in asyncio.as_completed([one.open() for one in some]):
                opened.push_async_callback((await each).close)
        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


class ReceivedCount:
    """Counts the messages that the broker sends to this process."""

    def __init__(self) -> None:
        from fastlib.transport.core import CommunicatorCore

        self.messages = 0
        inner = CommunicatorCore.on_message

        def on_message(core: CommunicatorCore, message: Any) -> None:
            self.messages += 1
            inner(core, message)

        setattr(CommunicatorCore, "on_message", on_message)  # noqa: B010


def scheduler(port: str) -> None:
    """Send orders as the lines of standard input say."""
    from fastlib.client import MigfraClient
    from fastlib.transport import MqttOptions

    received = ReceivedCount()
    options = MqttOptions(host="127.0.0.1", port=int(port))
    with MigfraClient.connect(options, timeout=PATIENCE) as client:
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(_measure(client, received, **json.loads(line))), flush=True)


def _measure(
    client: "MigfraClient", received: ReceivedCount, hosts: Sequence[str], orders: int, window: int
) -> dict[str, Any]:
    """Send orders to the hosts in turns, `window` of them in flight at the same time."""
    latencies: list[float] = []
    handles: deque[Handle[Result]] = deque()
    reports = 0

    def count(_: "Progress") -> None:
        nonlocal reports
        reports += 1

    all_ended = threading.Event()

    def done(begin: float) -> Callable[[object], None]:
        def note(_: object) -> None:
            latencies.append(time.perf_counter() - begin)
            if len(latencies) == orders:
                all_ended.set()

        return note

    before = received.messages
    begin, cpu = time.perf_counter(), time.process_time()
    for number in range(orders):
        now = time.perf_counter()
        handle = client.suspend(hosts[number % len(hosts)], f"vm{number}", on_progress=count)
        handle.add_done_callback(done(now))
        handles.append(handle)
        if len(handles) == window:
            _check(handles.popleft())
    for handle in handles:
        _check(handle)
    if not all_ended.wait(PATIENCE):  # the last callbacks run
        raise RuntimeError(f"{orders - len(latencies)} callbacks were not called")
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return {
        "orders": orders,
        "seconds": seconds,
        "cpu": cpu,
        "median": statistics.median(latencies),
        "p99": statistics.quantiles(latencies, n=100, method="inclusive")[98],
        "received": received.messages - before,
        "reports": reports,
    }


def _check(handle: "Handle[Result]") -> None:
    if handle.result(PATIENCE).status != "success":
        raise ValueError(f"{handle} has failed")


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "daemons":
        asyncio.run(daemons(*rest))
    else:
        scheduler(*rest)
