"""`fastlib log`: show the history of an order or of a domain."""

import argparse
import heapq
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from fastlib.cli.arguments.broker import add_broker_options
from fastlib.cli.arguments.questions import (
    add_format_option,
    add_hosts_option,
    add_timeout_option,
)
from fastlib.cli.arguments.values import positive_integer
from fastlib.cli.connection import exit_status_of, open_client
from fastlib.cli.errors import FAILED, TIMED_OUT, print_error
from fastlib.cli.host_search import (
    NO_DAEMON,
    find_hosts,
    ignorance_reason,
    offline_reason,
    silence_reason,
)
from fastlib.cli.output.terminal import flush_output, painter, width_of, write_json_line
from fastlib.display.order_lines import brief, story
from fastlib.display.order_story import Place, focus_of
from fastlib.display.text import (
    MAX_NAMES,
    full_time,
    join_names,
    natural_key,
    plural,
    printable,
    wrap,
    zone,
)
from fastlib.message import HistoryReport, OrderReport
from fastlib.transport.errors import RefusedError

if TYPE_CHECKING:
    from fastlib.client import Handle, MigfraClient
    from fastlib.message import HistoryResult

_EPILOG = """\
examples:
  fastlib log vm1
  fastlib log 5f3a9c1e07d24b16-1 --host node01
  fastlib log --host node01 --limit 5
  fastlib log vm1 --format json | jq '.orders[0].status'

The answer comes from the journals of the daemons, which keep orders for the configured 'max-age'.
Orders that act on a domain now come first, then the newest one: each in words, then its events. The
others have one sentence each. Times are by the clock of the daemon, in the local time zone.

With --format json each host is an object on one line, with the keys host, error, since, time, more
and orders. Its times are in UTC. An order has the keys of 'fastlib describe OrderReport'.

The exit status is 0 if an order was found, 1 if no daemon knows one, 2 for wrong usage or no
broker, 3 if a daemon gave no report: it is offline, did not answer in time, or answered an
error. Then there may be further orders.
"""

ANSWER_SECONDS: Final = 10.0
CLOCK_SECONDS: Final = 1.0
"""The minimum time by which a daemon's clock was set back for a note."""
MAX_TOLD: Final = 5
"""The maximum number of orders in progress whose events are shown without --full."""
ACTING: Final = ("running", "cancelling")
"""States of an order that currently acts on a domain."""

_Placed: TypeAlias = tuple[OrderReport, Place]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.usage = "%(prog)s [ID|VM] [--host HOST] [OPTION ...]"
    group = parser.add_argument_group("the orders")
    group.add_argument(
        "name",
        metavar="ID|VM",
        nargs="?",
        type=_name,
        help="the id or the idempotency key of an order, or a domain (default: the newest orders)",
    )
    add_hosts_option(group, "query the daemon of")
    group.add_argument(
        "--limit",
        metavar="N",
        type=positive_integer,
        default=20,
        help="the newest N orders, and older ones that are in progress (default: 20, the "
        "maximum of a daemon is 1000)",
    )
    form = parser.add_argument_group("the answer")
    form.add_argument(
        "--full",
        action="store_true",
        help="every order with its events, all its errors and its text",
    )
    add_format_option(form, "text for people, or JSON, one object for each host")
    add_timeout_option(form, "how long to wait for the daemons", ANSWER_SECONDS)
    add_broker_options(parser)


def _name(text: str) -> str:
    """Return a text that is valid in a message."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"it is not UTF-8: {printable(repr(text))}") from None
    if not text:
        raise argparse.ArgumentTypeError("expected an id or the name of a domain; got nothing")
    return text


def run(options: argparse.Namespace) -> int:
    return exit_status_of(options, partial(_run, options))


def _run(options: argparse.Namespace) -> int:
    with open_client(options) as client:
        answers = _ask(options, client)
    if options.format == "json":
        for answer in answers:
            write_json_line(_row(answer))
    else:
        _print(options, answers)
    return _exit_status(answers)


def _exit_status(answers: Sequence["_Answer"]) -> int:
    if not answers or any(answer.error is not None for answer in answers):
        return TIMED_OUT
    return 0 if any(answer.orders for answer in answers) else FAILED


# --- asking ---------------------------------------------------------------------------------------


class _Answer(msgspec.Struct, frozen=True):
    """The answer of one host: a report, or the reason why there is none."""

    host: str
    report: HistoryReport | None = None
    error: str | None = None
    degraded: str | None = None
    """The reason why the daemon accepts no tasks now."""

    @property
    def orders(self) -> Sequence[OrderReport]:
        return () if self.report is None else self.report.orders


def _ask(options: argparse.Namespace, client: "MigfraClient") -> list[_Answer]:
    """Query the daemons at the same time, and wait for their answers."""
    answers: dict[str, _Answer] = {}
    handles: dict[str, Handle[HistoryResult]] = {}
    for host, presence, _ in find_hosts(client, options.hosts):
        if presence is not None and presence.status == "offline":
            forget = f"fastlib forget {shlex.quote(host)}"
            error = (
                f"{offline_reason(presence)}, as the journal is on that host; if it never comes "
                f"back: {forget}"
            )
            answers[host] = _Answer(host, error=error)
            continue
        try:
            handles[host] = _send(options, client, host)
        except RefusedError as refusal:
            answers[host] = _Answer(host, error=str(refusal))
    for host, handle in handles.items():
        answers[host] = _answer(options, client, host, handle)
    return [answers[host] for host in sorted(answers, key=natural_key)]


def _send(
    options: argparse.Namespace, client: "MigfraClient", host: str
) -> "Handle[HistoryResult]":
    task: dict[str, Any] = {"limit": options.limit, "timeout": options.timeout}
    if options.name is not None:
        task |= dict.fromkeys(("order_id", "key", "vm_name"), options.name)
    # A late query does no harm, and a daemon whose clock is ahead must also answer it.
    return client.history(host, expires=None, **task)


def _answer(
    options: argparse.Namespace,
    client: "MigfraClient",
    host: str,
    handle: "Handle[HistoryResult]",
) -> _Answer:
    from fastlib.client import ClientError, NoResultError, NotUnderstoodError

    presence = client.presence(host)
    degraded = None if presence is None else presence.degraded
    try:
        result = handle.result()
    except NoResultError:
        return _Answer(host, error=silence_reason(options, presence), degraded=degraded)
    except NotUnderstoodError as error:
        return _Answer(host, error=ignorance_reason("query history", error.details))
    except (ClientError, RefusedError) as error:
        return _Answer(host, error=str(error), degraded=degraded)
    if result.history is None:
        return _Answer(host, error=result.details or "no history", degraded=degraded)
    return _Answer(host, result.history, degraded=degraded)


# --- showing --------------------------------------------------------------------------------------


def _row(answer: _Answer) -> dict[str, Any]:
    """Return an answer as a plain tree with the same keys for every host."""
    tree = {} if answer.report is None else answer.report.emit()
    return {
        "host": answer.host,
        "error": answer.error,
        "since": tree.get("since"),
        "time": tree.get("time"),
        "more": tree.get("more", False),
        "orders": tree.get("orders", []),
    }


def _print(options: argparse.Namespace, answers: Sequence[_Answer]) -> None:
    width = width_of(sys.stdout)
    reports = [answer.report for answer in answers if answer.report is not None]
    found = _newest_first(options, answers)
    older = [one for one in found[options.limit :] if one[0].state != "ended"]
    shown = [*found[: options.limit], *older]
    _print_orders(options, shown, width)
    if reports and not found:
        _print_lines(_not_found(options.name, answers), width)
    if any(report.more for report in reports) or len(shown) < len(found):
        _print_lines("There are older orders; --limit N shows more.", width)
    flush_output()
    for answer in answers:
        if answer.error is not None:
            print_error(options, f"{answer.host}: {answer.error}")
        if _clock_went_back(answer.orders):
            text = (
                f"{answer.host}: its clock was set back between these orders; they are shown in "
                "the order in which they came"
            )
            print_error(options, text, "note")
        if answer.degraded is not None:
            print_error(options, f"{answer.host} is degraded: {answer.degraded}", "warning")
    if not answers:
        print_error(options, NO_DAEMON)


def _newest_first(options: argparse.Namespace, answers: Sequence[_Answer]) -> list[_Placed]:
    """Return the orders of all hosts. Those of one host stay in order even if its clock jumped."""
    of_hosts = [
        [
            (order, Place(answer.host, answer.report.time, focus_of(order, options.name)))
            for order in answer.report.orders
        ]
        for answer in answers
        if answer.report is not None
    ]
    return list(heapq.merge(*of_hosts, key=lambda placed: placed[0].accepted, reverse=True))


def _clock_went_back(orders: Sequence[OrderReport]) -> bool:
    """Return True if an order came after another one, but has a clearly earlier time."""
    return any(
        (older.accepted - newer.accepted).total_seconds() > CLOCK_SECONDS
        for newer, older in pairwise(orders)
    )


def _print_orders(options: argparse.Namespace, shown: Sequence[_Placed], width: int) -> None:
    paint = painter(sys.stdout)
    told = _told(shown, full=options.full)
    for number, index in enumerate(told):
        if number:
            print()
        order, place = shown[index]
        for line in story(order, place, width=width, paint=paint, full=options.full):
            print(line)
    others = [one for index, one in enumerate(shown) if index not in told]
    if others:
        at = zone(others[0][0].accepted)
        print(f"\n{plural(len(others), 'other order')}, the newest first ({at}):")
    for order, place in others:
        for line in brief(order, place, width=width):
            print(line)


def _told(shown: Sequence[_Placed], *, full: bool) -> list[int]:
    """Return the indexes of the orders whose events are shown, in this order.

    Orders that act on a domain now come first, because the others wait for them.
    """
    acting = [index for index, (order, _) in enumerate(shown) if order.state in ACTING]
    if full:
        return [*acting, *(index for index in range(len(shown)) if index not in acting)]
    told = acting[:MAX_TOLD]
    return told if not shown or 0 in told else [*told, 0]


def _not_found(name: str | None, answers: Sequence[_Answer]) -> str:
    """Return the sentence that no daemon knows the order, and since when all have kept orders."""
    reports = {answer.host: answer.report for answer in answers if answer.report is not None}
    since = max(report.since for report in reports.values())
    what = "No order" if name is None else f"No order with the id, key or domain {name!r}"
    hosts = join_names(reports) if len(reports) <= MAX_NAMES else f"{len(reports)} hosts"
    kept = "Its journal has" if len(reports) == 1 else "Their journals have"
    return (
        f"{what} is known on {hosts}. {kept} every order that was accepted since "
        f"{full_time(since)}."
    )


def _print_lines(text: str, width: int) -> None:
    for line in wrap(printable(text), width):
        print(line)
