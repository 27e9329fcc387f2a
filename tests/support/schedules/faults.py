"""Faults that are planted into the code under test, each of which the schedules must find."""

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final, NamedTuple
from unittest import mock

import msgspec

from fastlib import Result, TaskContainer
from fastlib.client import AsyncMigfraClient, outcome, unanswered
from fastlib.client import core as client_core
from fastlib.message import topics
from fastlib.migfra import broker_connection
from fastlib.migfra.journal import acceptance, schema
from fastlib.migfra.journal.group_commit import GroupCommit
from fastlib.migfra.journal.journal import Journal
from fastlib.migfra.journal.transaction import execute
from fastlib.migfra.plugin_api import expiry
from fastlib.migfra.tasks.admission import Admission
from fastlib.migfra.tasks.answerer import Answerer
from fastlib.migfra.tasks.builtin_tasks import BuiltinTasks
from fastlib.migfra.tasks.publisher import Publisher
from fastlib.migfra.tasks.results import write
from fastlib.migfra.telemetry import host_claim
from fastlib.migfra.telemetry.other_daemons import OtherDaemons
from fastlib.migfra.telemetry.presence import PresencePublisher
from fastlib.transport import connect_async
from fastlib.transport.mqtt.session import MqttSession
from fastlib.transport.mqtt.subscriptions import BrokerSubscriptions
from fastlib.transport.routes import Routes

from .cluster import Cluster
from .hosts import LOST_WRITES
from .hypervisor import ScheduleHypervisor
from .settings import Protocol
from .short_schedules import (
    cancel_an_order,
    come_back_after_a_takeover,
    come_back_behind_a_dead_connection,
    come_back_with_a_late_clock,
    crash,
    crash_at_work,
    crash_before_a_failure_is_written,
    crash_scheduler_and_daemon,
    crash_the_scheduler,
    crash_without_a_network,
    expire_while_the_daemon_is_away,
    expire_while_the_journal_is_slow,
    fill_the_disk_and_crash,
    fill_the_disk_for_a_while,
    lose_the_daemon_at_work,
    quit_and_wait,
    repeat_a_request,
    restart_the_broker_amid_an_order,
    restart_the_broker_without_its_sessions,
    send_to_a_daemon_that_is_away,
    set_the_clock_back,
    start_a_second_daemon,
    start_and_stop_in_turn,
    start_with_a_full_disk,
    wait_at_the_broker,
)

Plant = Callable[[], Iterator[None]]


class Fault(NamedTuple):
    """A planted fault."""

    plant: Callable[[], AbstractContextManager[None]]
    """Plants it for the time of a `with` block."""
    schedule: Callable[[Cluster], None]
    """A short schedule that shows it."""
    protocol: Protocol = "3.1.1"
    """The MQTT of the schedule."""


FAULTS: Final[dict[str, Fault]] = {}
"""All faults by name."""


def shown_by(
    schedule: Callable[[Cluster], None], protocol: Protocol = "3.1.1"
) -> Callable[[Plant], None]:
    """Add a fault under the name of its function."""

    def add(plant: Plant) -> None:
        FAULTS[plant.__name__] = Fault(contextmanager(plant), schedule, protocol)

    return add


def _replaced(owner: Any, name: str, replacement: Any) -> Any:
    return mock.patch.object(owner, name, replacement)


@shown_by(crash("before write", 1))
def acknowledged_before_the_journal() -> Iterator[None]:
    original = Admission._admit_container

    async def admit(self: Admission, message: Any, container: Any, texts: int) -> Any:
        message.ack()
        return await original(self, message, container, texts)

    with _replaced(Admission, "_admit_container", admit):
        yield


@shown_by(crash("after work", 1))
def a_lost_fsync() -> Iterator[None]:
    token = LOST_WRITES.set(1)
    try:
        yield
    finally:
        LOST_WRITES.reset(token)


@shown_by(crash("after work", 1))
def begun_without_a_note_in_the_journal() -> Iterator[None]:
    async def begin(self: Journal, number: int, position: int) -> None:
        """Write nothing."""

    def first_begin(order: Any) -> tuple[bool, None]:
        return False, None

    with _replaced(Journal, "begin", begin), _replaced(acceptance, "first_begin", first_begin):
        yield


@shown_by(crash_before_a_failure_is_written)
def answer_sent_before_it_is_in_the_journal() -> Iterator[None]:
    async def answer(self: Answerer, job: Any, answer: Any) -> None:
        payload = write(answer)
        self._publisher.put(job.number, job.id, payload)
        await self._journal.answer(job.number, payload)
        self._jobs.remove(job)

    with _replaced(Answerer, "answer", answer):
        yield


@shown_by(crash_without_a_network)
def answer_counts_as_confirmed_when_it_is_sent() -> Iterator[None]:
    original = Publisher.put

    def put(self: Publisher, number: int | None, *rest: Any, **named: Any) -> Any:
        if number is not None:
            self._journal.confirmed(number)
        return original(self, number, *rest, **named)

    with _replaced(Publisher, "put", put):
        yield


@shown_by(crash_without_a_network)
def unconfirmed_answers_forgotten_at_the_start() -> Iterator[None]:
    async def unconfirmed(self: Journal) -> list[Any]:
        return []

    with _replaced(Journal, "unconfirmed", unconfirmed):
        yield


@shown_by(crash_at_work)
def accepted_orders_forgotten_at_the_start() -> Iterator[None]:
    async def unfinished(self: Journal) -> list[Any]:
        return []

    with _replaced(Journal, "unfinished", unfinished):
        yield


@shown_by(crash_at_work)
def orders_begun_before_a_crash_begin_again() -> Iterator[None]:
    original = schema.unfinished

    def unfinished(connection: Any, *given: Any) -> list[Any]:
        connection.execute("DELETE FROM members")
        connection.execute("UPDATE containers SET noted = 0")
        return original(connection, *given)

    with _replaced(schema, "unfinished", unfinished):
        yield


@shown_by(send_to_a_daemon_that_is_away)
def the_session_at_the_broker_is_not_kept() -> Iterator[None]:
    original = connect_async

    async def connect(options: Any, **named: Any) -> Any:
        return await original(msgspec.structs.replace(options, persistent=False), **named)

    with _replaced(broker_connection, "connect_async", connect):
        yield


@shown_by(crash("before work", 1))
def success_is_answered_after_a_crash_without_a_look() -> Iterator[None]:
    async def recover(self: ScheduleHypervisor, task: Any, context: Any) -> None:
        """Believe that it was done."""

    with _replaced(ScheduleHypervisor, "recover", recover):
        yield


@shown_by(expire_while_the_daemon_is_away)
def orders_never_expire() -> Iterator[None]:
    with _replaced(expiry, "has_expired", lambda expires, now, left=0.0: False):
        yield


@shown_by(expire_while_the_daemon_is_away)
def the_comparison_of_times_is_the_wrong_way_round() -> Iterator[None]:
    def has_expired(expires: float | None, now: float, left: float = 0.0) -> bool:
        return expires is not None and now < expires

    with _replaced(expiry, "has_expired", has_expired):
        yield


@shown_by(expire_while_the_journal_is_slow)
def expiry_is_not_looked_at_after_the_journal_was_written() -> Iterator[None]:
    def begin(self: expiry.Expiry) -> None:
        self._begun = True

    with _replaced(expiry.Expiry, "begin", begin):
        yield


@shown_by(repeat_a_request)
def keys_are_ignored() -> Iterator[None]:
    original = Journal.accept

    async def accept(self: Journal, *rest: Any, **named: Any) -> Any:
        return await original(self, *rest, **{**named, "key": None})

    with _replaced(Journal, "accept", accept):
        yield


@shown_by(start_and_stop_in_turn)
def the_same_bytes_are_always_a_repetition() -> Iterator[None]:
    def is_sent_again(arrival: Any, known: Any, window: float) -> bool:
        return known is not None and known.raw == arrival.raw

    with _replaced(acceptance, "is_sent_again", is_sent_again):
        yield


@shown_by(crash("after write", 1, down=10.0))
def packets_that_the_broker_repeats_are_new_orders() -> Iterator[None]:
    with _replaced(acceptance, "is_packet_again", lambda arrival, known, fresh: False):
        yield


@shown_by(repeat_a_request)
def the_client_repeats_a_request_with_another_key() -> Iterator[None]:
    original = AsyncMigfraClient._send

    async def send(self: AsyncMigfraClient, request: Any) -> None:
        if request.delivery is None:
            await original(self, request)
            return
        key = request.container.idempotency_key.encode()
        payload = request.payload.replace(key, secrets.token_hex(16).encode())
        await self._communicator.send(payload, topics.TASK(host=request.host), qos=2)

    with _replaced(AsyncMigfraClient, "_send", send):
        yield


@contextmanager
def _outcome(**changes: Any) -> Iterator[None]:
    """Let the client decide at once, by other evidence."""

    def outcome_of(evidence: Any, now: Any) -> Any:
        return outcome.outcome_of(msgspec.structs.replace(evidence, **changes), now)

    with ExitStack() as parts:
        parts.enter_context(_replaced(unanswered, "outcome_of", outcome_of))
        for name in ("worth_looking", "worth_asking"):
            parts.enter_context(_replaced(unanswered, name, lambda evidence, now: False))
        yield


@shown_by(lose_the_daemon_at_work)
def the_client_says_never_begun_of_every_expired_order() -> Iterator[None]:
    with _outcome(away=True, heard=True):
        yield


@shown_by(come_back_with_a_late_clock)
def the_client_does_not_wait_for_clocks_that_differ() -> Iterator[None]:
    with (
        _outcome(heard=True, tolerance=0.0),
        _replaced(unanswered, "seconds_to_wait", lambda evidence, now: 0.0),
    ):
        yield


@shown_by(come_back_behind_a_dead_connection)
def the_client_takes_silence_for_absence() -> Iterator[None]:
    with _outcome(heard=True):
        yield


@shown_by(set_the_clock_back)
def a_clock_that_is_set_back_gives_time_back() -> Iterator[None]:
    def latest_begin(*given: float) -> float:
        expires, now, monotonic = given[:3]
        return monotonic + expires - now

    with _replaced(expiry, "latest_begin", latest_begin):
        yield


@shown_by(fill_the_disk_and_crash)
def what_a_full_disk_has_not_taken_counts_as_written() -> Iterator[None]:
    original = GroupCommit._commit

    def commit(self: GroupCommit, operations: list[Any]) -> list[Any]:
        try:
            return original(self, operations)
        except sqlite3.OperationalError:
            self._connection.execute("BEGIN")
            results = [
                execute(self._connection, one, number) for number, one in enumerate(operations)
            ]
            self._connection.execute("ROLLBACK")
            return results

    with _replaced(GroupCommit, "_commit", commit):
        yield


@shown_by(fill_the_disk_for_a_while)
def the_presence_stays_degraded() -> Iterator[None]:
    original = GroupCommit._change

    def change(self: GroupCommit, error: Exception | None) -> None:
        if error is not None:
            original(self, error)

    with _replaced(GroupCommit, "_change", change):
        yield


@shown_by(cancel_an_order)
def a_cancellation_is_confirmed_and_not_done() -> Iterator[None]:
    async def cancel(self: BuiltinTasks, task: Any, context: Any, job: Any) -> Result:
        return Result(vm_name="n/a", status="success")

    with _replaced(BuiltinTasks, "cancel", cancel):
        yield


@shown_by(quit_and_wait)
def the_presence_stays_online_after_the_end() -> Iterator[None]:
    async def end(self: PresencePublisher) -> None:
        self._ending = True

    async def is_offline(self: PresencePublisher, timeout: float) -> bool:
        return True

    with (
        _replaced(PresencePublisher, "end", end),
        _replaced(PresencePublisher, "is_offline", is_offline),
    ):
        yield


@shown_by(crash_the_scheduler)
def a_scheduler_comes_back_with_a_new_key() -> Iterator[None]:
    original = AsyncMigfraClient.submit

    async def submit(self: AsyncMigfraClient, host: str, work: Any, **options: Any) -> Any:
        if isinstance(work, TaskContainer):
            work = msgspec.structs.replace(work, idempotency_key=secrets.token_hex(16))
        return await original(self, host, work, **options)

    with _replaced(AsyncMigfraClient, "submit", submit):
        yield


@shown_by(crash_scheduler_and_daemon)
def the_client_forgets_that_an_order_was_sent_before() -> Iterator[None]:
    with _outcome(sent_before=False, away=True, heard=True):
        yield


@shown_by(restart_the_broker_without_its_sessions)
def subscriptions_are_not_renewed() -> Iterator[None]:
    with _replaced(BrokerSubscriptions, "renew", lambda self: None):
        yield


@shown_by(restart_the_broker_amid_an_order)
def what_the_broker_forgot_is_not_sent_again() -> Iterator[None]:
    original = MqttSession._on_connect

    def on_connect(self: MqttSession, client: Any, data: Any, flags: Any, *rest: Any) -> None:
        if not flags.session_present:
            for packet_id in list(client._outgoing):
                client.forget(packet_id)
        original(self, client, data, flags, *rest)

    with _replaced(MqttSession, "_on_connect", on_connect):
        yield


@shown_by(start_a_second_daemon)
def nobody_notices_a_second_daemon() -> Iterator[None]:
    def is_other(own: Any, seen: Any, *, again: bool = False) -> bool:
        return False

    with _replaced(host_claim, "is_other", is_other):
        yield


@shown_by(come_back_after_a_takeover)
def a_daemon_that_was_cut_off_does_not_claim_its_host_again() -> Iterator[None]:
    original = OtherDaemons.is_ours

    async def on_reconnect(self: OtherDaemons) -> None:
        """Do nothing."""

    def is_ours(self: OtherDaemons, connection: int = 0) -> bool:
        return original(self, 0)

    with (
        _replaced(OtherDaemons, "_on_reconnect", on_reconnect),
        _replaced(OtherDaemons, "is_ours", is_ours),
    ):
        yield


@shown_by(wait_at_the_broker, "5")
def the_broker_drops_orders_too_early() -> Iterator[None]:
    original = client_core.ClientCore.seconds_left

    def seconds_left(self: Any, request: Any) -> float | None:
        left = original(self, request)
        return None if left is None else left / 10

    with _replaced(client_core.ClientCore, "seconds_left", seconds_left):
        yield


@shown_by(start_with_a_full_disk)
def orders_are_dropped_while_the_daemon_starts() -> Iterator[None]:
    with _replaced(Routes, "expect", lambda self, pattern: None):
        yield
