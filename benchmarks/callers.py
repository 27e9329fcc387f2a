"""Measure round trips between a scheduler and a daemon, by fastlib and by bare paho-mqtt."""

import time
from collections.abc import Callable
from typing import Protocol

import paho.mqtt.client as paho

from fastlib import Result, ResultContainer, Stop, TaskContainer
from fastlib.client import MigfraClient
from fastlib.message.topics import RESULT, TASK
from fastlib.transport import ReceivedMessage

from .pairs import PATIENCE, Count, client, communicator, subscribe

HOST = "pandora1"
NAMES = ("centos7113", "centos7114")
QOS = 2


class Caller(Protocol):
    """Measures the seconds of round trips."""

    def one_by_one(self, count: int) -> list[float]:
        """Send each task after the result of the one before."""

    def at_once(self, count: int) -> list[float]:
        """Send all tasks at once; measure each from its sending to its result."""

    def close(self) -> None:
        """Disconnect."""


class FastlibCaller:
    """A `MigfraClient`, and a daemon that reads each container and answers it with success."""

    name = "fastlib"

    def __init__(self, port: int) -> None:
        self._daemon = communicator(port)
        self._daemon.subscribe(TASK(HOST), self._answer)
        self._communicator = communicator(port)
        self._client = MigfraClient(self._communicator, timeout=PATIENCE)

    def _answer(self, message: ReceivedMessage) -> None:
        results = answer(TaskContainer.from_yaml(message.payload))
        self._daemon.send(results.to_yaml().encode(), RESULT(HOST), QOS)

    def one_by_one(self, count: int) -> list[float]:
        times = []
        container = task()
        for _ in range(count):
            begin = time.perf_counter()
            results = self._client.submit(HOST, container).result(PATIENCE)
            times.append(time.perf_counter() - begin)
            if len(results.results) != len(NAMES):
                raise ValueError(f"not the answer: {results}")
        return times

    def at_once(self, count: int) -> list[float]:
        begins = [0.0] * count
        ends = [0.0] * count
        container = task()
        answered = Count()
        answered.expect(count)

        def note(number: int) -> Callable[[object], None]:
            def done(_: object) -> None:
                ends[number] = time.perf_counter()
                answered.add()

            return done

        handles = []
        for number in range(count):
            begins[number] = time.perf_counter()
            handle = self._client.submit(HOST, container)
            handle.add_done_callback(note(number))
            handles.append(handle)
        answered.wait()
        for handle in handles:
            handle.result(PATIENCE)
        return [end - begin for begin, end in zip(begins, ends, strict=True)]

    def close(self) -> None:
        self._client.close()
        self._communicator.close()
        self._daemon.close()


class PahoCaller:
    """Two bare clients that send the same bytes, and do not parse them.

    An answer is taken for that of the oldest task without one, as a broker keeps the order.
    """

    name = "bare paho"

    def __init__(self, port: int) -> None:
        # As long as those that fastlib makes.
        container = task(id="0123456789abcdef-1234")
        self._task = container.to_yaml().encode()
        self._result = answer(container).to_yaml().encode()
        self._task_topic = f"benchmark/{TASK(HOST)}"
        self._result_topic = f"benchmark/{RESULT(HOST)}"
        self._ends: list[float] = []
        self._answered = Count()
        self._daemon = client(port)
        self._daemon.on_message = self._answer
        subscribe(self._daemon, self._task_topic)
        self._scheduler = client(port)
        self._scheduler.on_message = self._note
        subscribe(self._scheduler, self._result_topic)

    def _answer(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._daemon.publish(self._result_topic, self._result, QOS)

    def _note(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        self._ends.append(time.perf_counter())
        self._answered.add()

    def one_by_one(self, count: int) -> list[float]:
        times = []
        for _ in range(count):
            times += self.at_once(1)
        return times

    def at_once(self, count: int) -> list[float]:
        self._ends = []
        self._answered.expect(count)
        begins = []
        for _ in range(count):
            begins.append(time.perf_counter())
            self._scheduler.publish(self._task_topic, self._task, QOS)
        self._answered.wait()
        return [end - begin for begin, end in zip(begins, self._ends, strict=True)]

    def close(self) -> None:
        for one in (self._scheduler, self._daemon):
            one.disconnect()
            one.loop_stop()


def task(id: str | None = None) -> TaskContainer:
    """Return the task."""
    return TaskContainer(tasks=[Stop(vm_name=name) for name in NAMES], id=id)


def answer(container: TaskContainer) -> ResultContainer:
    """Return the answer: a success of each member."""
    results = [Result(vm_name=name, status="success") for name in NAMES]
    return ResultContainer.answer(container, results)


CALLERS: dict[str, Callable[[int], Caller]] = {
    FastlibCaller.name: FastlibCaller,
    PahoCaller.name: PahoCaller,
}
