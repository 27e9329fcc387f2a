"""Communicators for threads and coroutines with the same methods, for one test suite."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from fastlib.transport import (
    AsyncCommunicator,
    ConnectError,
    MqttOptions,
    TlsOptions,
    connect,
    connect_async,
)
from tests.support.mosquitto import Certificates

PATIENCE = 60
"""Seconds until something that must come is given up."""

QUICK_MQTT: dict[str, Any] = {"host": "127.0.0.1", "retry_min": 0.05, "retry_max": 0.4}
"""Options for a broker of this machine, with quick retries."""


def connect_error(words: str, /, **options: Any) -> ConnectError:
    """Connect in vain, and return the error, which must match `words`.

    It has the reason of the tries that have ended in time. On a busy machine a try may take longer
    than the first timeout, so the next ones are longer.
    """
    for timeout in (0.3, 3, PATIENCE):
        with pytest.raises(ConnectError) as caught:
            connect(MqttOptions(**(QUICK_MQTT | options)), timeout=timeout)
        if re.search(words, str(caught.value)):
            break
    assert re.search(words, str(caught.value)), caught.value
    return caught.value


class BlockingCommunicator:
    """Offers the methods of a Communicator over an AsyncCommunicator."""

    def __init__(self, loop: asyncio.AbstractEventLoop, inner: AsyncCommunicator) -> None:
        self.loop = loop
        self.inner = inner

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE * 2)

    def send(self, *arguments: Any, **named: Any) -> Any:
        return self._run(self.inner.send(*arguments, **named))

    def subscribe(
        self, topic: str, callback: Callable[[Any], None] | None = None, **named: Any
    ) -> None:
        if callback is None:
            self._run(self.inner.subscribe(topic, **named))
            return

        async def call(message: Any) -> None:
            callback(message)

        self._run(self.inner.subscribe(topic, call, **named))

    def unsubscribe(self, topic: str) -> None:
        self._run(self.inner.unsubscribe(topic))

    def wait_for_callbacks(self, timeout: float | None = PATIENCE) -> None:
        self._run(self.inner.wait_for_callbacks(timeout))

    def resend_retained(self, topic: str) -> Any:
        return self.inner.resend_retained(topic)

    def receive(self, *arguments: Any, **named: Any) -> Any:
        return self._run(self.inner.receive(*arguments, **named))

    def on_close(self, callback: Callable[[Any], None]) -> Callable[[], None]:
        async def call() -> Callable[[], None]:
            return self.inner.on_close(callback)

        taken_back: Callable[[], None] = self._run(call())
        return taken_back

    def close(self, *arguments: Any, **named: Any) -> None:
        self._run(self.inner.close(*arguments, **named))

    @property
    def is_connected(self) -> bool:
        return self.inner.is_connected

    @property
    def last_error(self) -> Any:
        return self.inner.last_error

    def __enter__(self) -> "BlockingCommunicator":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Connector:
    """Connects communicators for threads or for coroutines to one broker."""

    def __init__(self, options: Callable[..., Any], loop: asyncio.AbstractEventLoop | None) -> None:
        self.options = options
        self.loop = loop
        self._made: list[Any] = []

    def connect(self, *, timeout: float = PATIENCE, **named: Any) -> Any:
        options = self.options(**named)
        made: Any
        if self.loop is None:
            made = connect(options, timeout=timeout)
        else:
            opening = asyncio.run_coroutine_threadsafe(
                connect_async(options, timeout=timeout), self.loop
            )
            made = BlockingCommunicator(self.loop, opening.result(timeout + PATIENCE))
        self._made.append(made)
        return made

    def close(self) -> None:
        for made in self._made:
            made.close()


def tls_options(certificates: Certificates) -> TlsOptions:
    return TlsOptions(
        ca_file=certificates.ca,
        certificate=certificates.client,
        key=certificates.key(certificates.client),
    )
