"""Send answers in order, and mark them in the journal when the broker has confirmed them."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from logging import getLogger
from typing import Final

import msgspec

from fastlib.migfra.errors import JournalError
from fastlib.migfra.failures import describe
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.telemetry.logs import About, context_without_task
from fastlib.transport import (
    AsyncCommunicator,
    ClosedError,
    Delivery,
    MessageTooLargeError,
    QueueFullError,
)
from fastlib.transport.futures import call_when_done

from .shortening import room_for, shortened

log = getLogger("fastlib.migfra")

ANSWER_SIZE: Final = 2048
"""Bytes of memory of an answer beside its payload."""


LOOK_SECONDS: Final = 0.25
"""Seconds between two checks of the connection in `flush`."""


class Answer(msgspec.Struct, frozen=True):
    """An answer that the broker has not confirmed."""

    number: int | None
    """Number of its container in the journal, None if that is not there."""
    about: About
    topic: str
    payload: bytes
    confirmed: "asyncio.Future[bool] | None" = None
    """Result True if the broker has confirmed it, False if the broker refused it.

    None if no caller awaits it.
    """


class EarlyAnswer:
    """An answer that the journal's thread sends when it is stored. The loop counts it later.

    The loop would need a turn or two before it could send it.
    """

    __slots__ = ("_publisher", "answer", "delivery", "is_done", "payload", "topic")

    def __init__(self, publisher: "Publisher", topic: str, payload: bytes) -> None:
        self._publisher = publisher
        self.topic: Final = topic
        self.payload: Final = payload
        self.delivery: Delivery | None = None
        """None if it is not sent: `Publisher.put` sends it then."""
        self.answer: Answer | None = None
        """Set by `Publisher.put` if it was sent."""
        self.is_done = False
        """Whether the broker has confirmed or refused it before `Publisher.put`."""

    def send(self) -> None:
        """Send it, unless another answer must be sent first. Any thread may call it, one at a time.

        It never raises.
        """
        self.delivery = self._publisher.send_early(self)


class Publisher:
    """The answers that the broker has not confirmed."""

    def __init__(
        self,
        communicator: AsyncCommunicator,
        journal: Journal,
        topic_of: Callable[[str | None], str],
        qos: int,
    ) -> None:
        """`topic_of` returns the topic of answers to the orders of a host; None is this host."""
        self._communicator = communicator
        self._journal = journal
        self._topic_of = topic_of
        self._own_topic = topic_of(None)
        self._qos = qos
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Answer | EarlyAnswer] = deque()
        """The answers that have no room yet, in order. An `EarlyAnswer` keeps the place of one that
        is not put yet.
        """
        self._left: deque[EarlyAnswer] = deque()
        """Answers that could not be sent early, and have no place in `_waiting` yet.

        Later ones must not overtake them.
        """
        self._answered: deque[tuple[Future[None], Answer | EarlyAnswer]] = deque()
        """The answers that the broker has confirmed or refused, added by its thread."""
        self._is_woken = False
        """Whether a call of `_take_answered` is scheduled."""
        self._unconfirmed = 0
        self._size = 0
        self._worker: asyncio.Task[None] | None = None
        self._change = asyncio.Event()
        self._storing: set[asyncio.Task[None]] = set()

    @property
    def unconfirmed(self) -> int:
        """Number of answers that the broker has not confirmed."""
        return self._unconfirmed

    @property
    def size(self) -> int:
        """Bytes of memory of these answers, estimated."""
        return self._size

    def is_own(self, host: str | None) -> bool:
        """Return whether answers to orders of a host have the topic of this host."""
        return host is None or self._topic_of(host) == self._own_topic

    def early(self, payload: bytes, host: str | None = None) -> EarlyAnswer:
        """Return an answer that may be sent before `put`, with the same arguments."""
        topic = self._own_topic if host is None else self._topic_of(host)
        return EarlyAnswer(self, topic, payload)

    def send_early(self, early: EarlyAnswer) -> Delivery | None:
        """Pass an answer to the transport; return None if `put` must do that.

        Any thread may call it, one at a time.
        """
        if not self._waiting and not self._left:
            with suppress(Exception):  # `_run` tries again, and logs errors
                delivery = self._communicator.send_now(early.payload, early.topic, self._qos)
                call_when_done(delivery.future, partial(self._note_answered, early))
                return delivery
        self._left.append(early)
        return None

    def put(
        self,
        number: int | None,
        id: str | None,
        payload: bytes,
        host: str | None = None,
        *,
        vm_name: str | None = None,
        early: EarlyAnswer | None = None,
    ) -> None:
        """Send the answer to a container; `number` is that in the journal if it is there.

        `host` is the name of the host that the container came to, None for this one. `vm_name` is
        its only domain, for the log. `early` is the same answer if it may have been sent before.
        """
        topic = self._own_topic if host is None else self._topic_of(host)
        answer = Answer(number, About(id, vm_name), topic, payload)
        if early is not None and early.delivery is not None:
            self._count(answer)
            early.answer = answer
            if early.is_done:
                self._done(early.delivery.future, answer)
            return
        self._put(answer, early)

    async def deliver(self, id: str | None, payload: bytes) -> bool:
        """Send an answer that the journal does not have, and wait for the broker's confirmation.

        Return False if the broker refuses it.
        """
        confirmed: asyncio.Future[bool] = self._loop.create_future()
        self._put(Answer(None, About(id, None), self._own_topic, payload, confirmed))
        return await confirmed

    def _count(self, answer: Answer) -> None:
        self._unconfirmed += 1
        self._size += ANSWER_SIZE + len(answer.payload)

    def _put(self, answer: Answer, early: EarlyAnswer | None = None) -> None:
        """Send an answer behind the earlier ones. `early` is the same one if it was not sent."""
        self._count(answer)
        while self._left:  # added first, because the journal's thread looks at both
            self._waiting.append(self._left[0])
            self._left.popleft()
        place = None if early is None else self._place_of(early)
        if place is not None:
            self._waiting[place] = answer
            self._change.set()
        elif not self._waiting and self._send_now(answer):
            return
        else:
            self._waiting.append(answer)
        if self._worker is None or self._worker.done():
            # The log lines of this task are not about the answer that started it.
            self._worker = asyncio.create_task(self._run(), context=context_without_task())

    def _place_of(self, early: EarlyAnswer) -> int | None:
        """Return the place of an answer among the waiting ones; it is one of the last."""
        for place in range(len(self._waiting) - 1, -1, -1):
            if self._waiting[place] is early:
                return place
        return None  # it was not tried

    def _send_now(self, answer: Answer) -> bool:
        """Pass an answer to the transport if it has room; return whether it did."""
        try:
            delivery = self._communicator.send_now(answer.payload, answer.topic, self._qos)
        except Exception:  # `_run` tries again, and logs errors
            return False
        self._watch(delivery, answer)
        return True

    async def _run(self) -> None:
        while self._waiting:
            answer = self._waiting[0]
            if isinstance(answer, EarlyAnswer):
                self._change.clear()
                await self._change.wait()  # `put` follows in a moment
                continue
            try:
                delivery = await self._communicator.send(answer.payload, answer.topic, self._qos)
            except QueueFullError:
                await self._wait_for_room()
                continue
            except MessageTooLargeError as error:
                self._waiting.popleft()
                self._shorten(answer, error)
                continue
            except ClosedError:
                return  # the next run sends the answers from the journal
            except Exception as error:  # unexpected; the next run sends the result again
                log.exception(
                    "a result could not be sent: %s",
                    describe(error),
                    extra={"about": answer.about},
                )
                self._waiting.popleft()
                self._settle(answer, False)
                continue
            self._waiting.popleft()
            self._watch(delivery, answer)

    async def _wait_for_room(self) -> None:
        """Wait until the broker has confirmed something."""
        self._change.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(1):  # room may also come from elsewhere
                await self._change.wait()

    def _watch(self, delivery: Delivery, answer: Answer) -> None:
        if answer.confirmed is not None and delivery.done:  # the case of a broker in memory
            self._done(delivery.future, answer)
            return

        call_when_done(delivery.future, partial(self._note_answered, answer))

    def _note_answered(self, answer: Answer | EarlyAnswer, future: "Future[None]") -> None:
        """Let the loop handle the broker's answer. Any thread may call it."""
        self._answered.append((future, answer))
        if not self._is_woken:  # one call for many
            self._is_woken = True
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._take_answered)

    def _take_answered(self) -> None:
        self._is_woken = False  # reset first: an answer that comes later must call again
        while self._answered:
            future, answer = self._answered.popleft()
            if isinstance(answer, EarlyAnswer):
                if answer.answer is None:
                    answer.is_done = True
                    self._journal.settle()  # `put` follows in a moment
                    continue
                answer = answer.answer
            self._done(future, answer)

    def _done(self, future: "Future[None]", answer: Answer) -> None:
        error = future.exception()
        if isinstance(error, MessageTooLargeError):
            self._shorten(answer, error)
            return
        try:
            if error is not None:
                log.error(
                    "the broker has not accepted a result: %s", error, extra={"about": answer.about}
                )
            elif answer.number is not None:
                self._journal.confirmed(answer.number)
        except Exception:  # the next run sends the result again
            log.exception(
                "the broker's confirmation of a result could not be stored; the next "
                "run sends the result again",
                extra={"about": answer.about},
            )
        finally:
            self._settle(answer, error is None)

    def _shorten(self, answer: Answer, error: MessageTooLargeError) -> None:
        """Send a shorter answer, or drop the answer if it cannot be shortened."""
        room = room_for(len(answer.payload), error.packet, error.limit)
        payload = shortened(answer.payload, room)
        if payload is None:
            log.error(
                "%s; the answer cannot be shortened and is dropped",
                error,
                extra={"about": answer.about},
            )
            if answer.number is not None:  # the next run could not send it either
                self._journal.confirmed(answer.number)
            self._settle(answer, False)
            return
        log.error(
            "%s; the daemon sends a shorter answer of %d bytes with the same status",
            error,
            len(payload),
            extra={"about": answer.about},
        )
        shorter = msgspec.structs.replace(answer, payload=payload)
        storing = asyncio.create_task(self._store(shorter), context=context_without_task())
        self._storing.add(storing)
        storing.add_done_callback(self._storing.discard)
        self._size += len(payload) - len(answer.payload)

    async def _store(self, shorter: Answer) -> None:
        """Write a shorter answer to the journal for the next run, and send it."""
        if shorter.number is not None:
            try:
                await self._journal.answer(shorter.number, shorter.payload)
            except JournalError as error:  # the next run shortens it again
                log.warning("%s", error, extra={"about": shorter.about})
        self._unconfirmed -= 1
        self._size -= ANSWER_SIZE + len(shorter.payload)
        self._put(shorter)

    def _settle(self, answer: Answer, sent: bool) -> None:
        self._unconfirmed -= 1
        self._size -= ANSWER_SIZE + len(answer.payload)
        self._change.set()
        if answer.confirmed is not None and not answer.confirmed.done():
            answer.confirmed.set_result(sent)

    async def flush(self, timeout: float) -> int:
        """Wait until the broker has confirmed everything, at most `timeout` seconds.

        Return the number of unconfirmed answers.

        Without a connection it does not wait: the journal keeps the answers for the next run.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._unconfirmed and self._communicator.is_connected:
                    self._change.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_SECONDS):
                            await self._change.wait()
        return self._unconfirmed

    def stop(self) -> None:
        """Send nothing more."""
        for task in (self._worker, *self._storing):
            if task is not None:
                task.cancel()
