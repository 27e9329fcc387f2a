"""The daemon's subscription to the topic of its orders, also while the broker refuses it."""

import asyncio
from collections.abc import Callable
from logging import getLogger
from typing import Final

from fastlib.migfra.telemetry.logs import context_without_task
from fastlib.transport import AsyncCommunicator, RefusedError, TransportError
from fastlib.transport.futures import wait_async

log = getLogger("fastlib.migfra")

REMIND_SECONDS: Final = 30.0
"""Seconds between two log lines about an unconfirmed subscription."""
RETRY_SECONDS: Final = 10.0
"""Seconds between two requests of a subscription that the broker refuses."""
REMEDY: Final = "let the daemon's user read this topic in the access rules of the broker"


class OrderSubscription:
    """Subscribes to the orders, and requests that again while the broker refuses it.

    A broker can refuse a subscription at any reconnect that it permitted earlier. The daemon then
    finishes the running tasks, reports the reason in its presence, and continues when the broker
    permits the subscription again. At the start a refusal is an error: no task runs yet, and a
    person is there to read it.
    """

    def __init__(
        self, communicator: AsyncCommunicator, topic: str, on_change: Callable[[], object]
    ) -> None:
        """`on_change` is called when `refusal` has changed."""
        self._communicator = communicator
        self._topic = topic
        self._on_change = on_change
        self._refusal: str | None = None
        self._retrying: asyncio.Task[None] | None = None
        self._reconnected = asyncio.Event()
        self._remove: list[Callable[[], None]] = []

    @property
    def refusal(self) -> str | None:
        """The reason why no orders are received, with the remedy; None if the broker permits it."""
        return self._refusal

    async def begin(self) -> None:
        """Subscribe when the broker answers. Raises RefusedError."""
        subscribing = asyncio.create_task(
            self._communicator.subscribe(self._topic, manual_ack=True, timeout=None)
        )
        try:
            while not (await asyncio.wait((subscribing,), timeout=REMIND_SECONDS))[0]:
                log.warning(
                    "the broker has not confirmed the subscription to %s yet; the daemon receives "
                    "no orders until then", self._topic,
                )  # fmt: skip
            await subscribing
        except RefusedError as error:
            raise RefusedError(f"{error}; {REMEDY}", error.code) from error
        finally:
            subscribing.cancel()
        self._remove = [
            self._communicator.on_refused(self._on_refused),
            self._communicator.on_reconnect(self._on_reconnect),
        ]

    def end(self) -> None:
        """Stop all requests."""
        for remove in self._remove:
            remove()
        if self._retrying is not None:
            self._retrying.cancel()

    async def _on_refused(self, topic: str, error: RefusedError) -> None:
        if topic != self._topic:
            return
        self._note(str(error))
        if self._retrying is None or self._retrying.done():
            # Its log lines are not about a task.
            self._retrying = asyncio.create_task(self._retry(), context=context_without_task())

    async def _on_reconnect(self) -> None:
        self._reconnected.set()  # this was a new request, and the broker may have been restarted

    def _note(self, error: str) -> None:
        refusal = f"{error}; {REMEDY}; the daemon then continues without a restart"
        if refusal != self._refusal:
            log.error("the daemon receives no orders: %s", refusal)
            self._refusal = refusal
            self._on_change()

    async def _retry(self) -> None:
        while True:
            self._reconnected.clear()
            try:
                async with asyncio.timeout(RETRY_SECONDS):
                    await self._reconnected.wait()
            except TimeoutError:
                pass
            try:
                confirmed = self._communicator.resend_retained(self._topic)
                await wait_async(confirmed, RETRY_SECONDS, "the subscription to the orders")
            except RefusedError as error:
                self._note(str(error))
            except TransportError as error:
                log.debug("the subscription to %s is not confirmed: %s", self._topic, error)
            else:
                log.warning("the broker permits the subscription to %s again", self._topic)
                self._refusal = None
                self._on_change()
                return
