"""Tests of a client's queries of a daemon's journal about an order without a result."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fastlib import (
    HistoryReport,
    HistoryResult,
    OrderReport,
    QueryHistory,
    ResultContainer,
    TaskContainer,
)
from tests.support.client.factory import IN_MEMORY, PATIENCE, ClientFactory, Daemon, success
from tests.support.client.unanswered import SENT_BEFORE, SOON, failure_of, sent_in_time, shown
from tests.support.waiting import wait_until


class JournalDaemon:
    """Answers nothing but questions about its journal, which has the orders `known`."""

    def __init__(self, daemon: Daemon, since: timedelta = timedelta(days=1)) -> None:
        self.known: list[OrderReport] = []
        self._since = since
        daemon.answers(self._answer)

    def _answer(self, container: TaskContainer) -> ResultContainer | None:
        (task,) = container.tasks
        if not isinstance(task, QueryHistory):
            return None
        now = datetime.now(UTC)
        orders = [order for order in self.known if order.idempotency_key == task.key]
        report = HistoryReport(host="hostA", since=now - self._since, time=now, orders=orders)
        return ResultContainer.answer(container, [HistoryResult(status="success", history=report)])


def online(clients: ClientFactory, **options: Any) -> tuple[Daemon, Any]:
    """Return the daemon of hostA, and a client that knows that it is there."""
    daemon, client = clients.daemon(), clients.client(**({"clock_tolerance": 0.3} | options))
    daemon.presence("online", instance="first")
    shown(client, "online")
    return daemon, client


def test_queried_daemon_reports_that_the_order_has_begun(clients: ClientFactory):
    daemon, client = online(clients, clock_tolerance=PATIENCE)
    journal = JournalDaemon(daemon)

    def attempt(seconds: float) -> Any:
        handle = client.suspend("hostA", "vm1", timeout=seconds)
        now = datetime.now(UTC)
        journal.known.append(
            OrderReport(
                number=1,
                idempotency_key=handle.container.idempotency_key,
                state="running",
                accepted=now,
                began=now,
                expires=handle.container.expires,
            )
        )
        ids = {handle.id}
        wait_until(lambda: handle.done() or ids <= {one.id for one in daemon.received}, "the order")
        return handle

    handle = sent_in_time(attempt)
    error = failure_of(handle)  # at once, without the tolerance
    assert (error.outcome, "as its journal says" in error.reason) == ("begun", True)
    assert [one.task for one in daemon.received[-2:]] == ["suspend vm", "query history"]


@IN_MEMORY
def test_journal_of_an_older_fastlib_does_not_know_whether_the_order_has_begun(
    clients: ClientFactory,
):
    daemon, client = online(clients)
    journal = JournalDaemon(daemon)
    handle = client.suspend("hostA", "vm1", timeout=SENT_BEFORE)
    container = handle.container
    now = datetime.now(UTC)
    journal.known.append(
        OrderReport(
            number=1,
            idempotency_key=container.idempotency_key,
            state="running",
            accepted=now,
            expires=container.expires,
        )
    )
    assert failure_of(handle).outcome == "unknown"


def test_queried_daemon_reports_that_it_never_got_the_order(clients: ClientFactory):
    daemon, client = online(clients)
    JournalDaemon(daemon)
    error = failure_of(client.suspend("hostA", "vm1", timeout=SENT_BEFORE))
    assert (error.outcome, error.reason) == (
        "never begun",
        "its daemon had not begun it when it had expired",
    )


@IN_MEMORY
def test_journal_that_began_after_the_order_was_sent_does_not_know(clients: ClientFactory):
    daemon, client = online(clients)
    JournalDaemon(daemon, since=timedelta(0))
    assert failure_of(client.suspend("hostA", "vm1", timeout=SOON)).outcome == "unknown"


def test_daemon_that_does_not_answer_leaves_the_outcome_unknown(clients: ClientFactory):
    daemon, client = online(clients)
    error = failure_of(client.suspend("hostA", "vm1", timeout=SENT_BEFORE))
    assert error.outcome == "unknown"
    questions = [one for one in daemon.received if one.task == "query history"]
    assert len(questions) == 2
    assert {one.tasks[0].key for one in questions} == {error.request.container.idempotency_key}


@IN_MEMORY
def test_client_without_tolerance_and_queries_send_no_query(clients: ClientFactory):
    daemon, client = online(clients, clock_tolerance=0.0)
    failure_of(client.suspend("hostA", "vm1", timeout=SOON))
    assert [one.task for one in daemon.received] == ["suspend vm"]
    _, patient = online(clients)
    failure_of(patient.history("hostA", vm_name="vm1", timeout=SOON))
    assert [one.task for one in daemon.received] == ["suspend vm", "query history"]


def test_result_after_the_question_is_returned(clients: ClientFactory):
    daemon, client = online(clients, clock_tolerance=PATIENCE)
    handle = client.suspend("hostA", "vm1", timeout=SENT_BEFORE)
    order, question = daemon.wait(2)
    assert question.task == "query history"
    daemon.send(success(order))
    assert handle.result(PATIENCE).status == "success"
