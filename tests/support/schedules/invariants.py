"""What must hold after every schedule, once nothing is under way any more.

If a second daemon took a host over, the first one and the second may both have had the orders that
had not ended by then, and those that came meanwhile (`Record.shared`). Each executes them, as each
has a journal of its own. What one of them answers need not be true of the other.
"""

from collections import Counter
from typing import Final

from fastlib import ResultContainer
from fastlib.migfra import HostTakenError

from .cluster import Cluster
from .orders import Order
from .process import EPOCH
from .record import Sent, without_executed

ROUNDING_SECONDS: Final = 1e-5
"""The tolerated inaccuracy of times, which travel in microseconds."""

Answers = dict[Order, set[ResultContainer]]


def violations(cluster: Cluster) -> list[str]:
    """Return a sentence for each violated invariant."""
    answers = cluster.record.answers_by_order()
    return [
        *cluster.record.errors,
        *cluster.record.untrue_presences,
        *(f"two daemons of {host} work side by side" for host in cluster.record.beside),
        *_begun_beside_a_second_daemon(cluster),
        *_begun_by_a_clock_that_was_set(cluster),
        *_begun_after_a_cancellation(cluster),
        *_dropped_early(cluster),
        *_failed(cluster),
        *_begun_later(cluster),
        *_begun_twice(cluster),
        *_not_begun(cluster),
        *_begun_late(cluster),
        *_untrue_answers(cluster, answers),
        *_missing_answers(cluster, answers),
        *_untrue_clients(cluster, answers),
    ]


def _failed(cluster: Cluster) -> list[str]:
    """No daemon ends with an error, but for the first one of a host that was taken over."""
    return [
        f"the daemon of {host.name} failed: {error!r}"
        for host in cluster.hosts
        for error in host.failures
        if host.name not in cluster.record.taken_over or not isinstance(error, HostTakenError)
    ]


def _begun_beside_a_second_daemon(cluster: Cluster) -> list[str]:
    """The first daemon of a host begins nothing new while a second one has taken it over."""
    found = []
    for host, began, ended in cluster.record.takeovers:
        for order, begins in cluster.domains.begun.items():
            came = [a.time for a in cluster.record.arrivals[order] if a.daemon == host]
            if came and min(came) > began:
                found += [
                    f"{order} began on {host} at {begin.time:.3f}, while a second daemon had it"
                    for begin in begins
                    if begin.process.name == host and began < begin.time < ended
                ]
    return found


def _begun_later(cluster: Cluster) -> list[str]:
    """No order begins in a later schedule than its own, whether it began there or not."""
    return [
        f"{order} of an earlier schedule began"
        for order in cluster.domains.begun
        if order in cluster.domains.over
    ]


def _begun_twice(cluster: Cluster) -> list[str]:
    """No order with a key begins twice at a daemon. One without begins once for each copy."""
    found = []
    record = cluster.record
    for order in cluster.domains.begun:
        first = cluster.domains.first_begins(order)
        count, allowed = len(first), 1
        if order in record.keyless:
            allowed = record.copies[order]
        elif order in record.shared:
            count = max(Counter(begin.process.name for begin in first).values(), default=0)
        if count > allowed:
            times = ", ".join(f"{begin.now - EPOCH:.3f}" for begin in first)
            found.append(f"{order} began {count} times (at {times}), at most {allowed} wanted")
    return found


def _not_begun(cluster: Cluster) -> list[str]:
    """An order without a key begins each time that it is sent, if no crash is in the way.

    A broker that uses the lowest free packet id can give the id of an order to the next one with
    the same bytes. If the daemon crashes before it has noted that one, the repetition of the second
    packet looks exactly like one of the first. mosquitto takes the ids in turn.
    """
    if cluster.network.broker.reuses_packet_ids:
        return []
    crashes = sum(host.crashes for host in cluster.hosts)
    found = []
    record = cluster.record
    for order, sent in record.keyless.items():
        begun = len(cluster.domains.first_begins(order))
        unheard = record.published[order] - record.copies[order]
        lost = record.lost_copies[order] + unheard
        if begun + crashes + lost < sent:
            found.append(
                f"{order} was sent {sent} times, and began {begun} times, with {crashes} crashes "
                f"and {lost} copies that the broker lost"
            )
    return found


def _begun_late(cluster: Cluster) -> list[str]:
    """No order begins after it has expired, by the clock of its host."""
    found = []
    for sent in cluster.record.sent:
        expires = sent.expires
        if expires is None:
            continue
        found += [
            f"{sent.order} began (attempt {begin.attempt}) {begin.now - expires:.3f} s after it "
            "had expired"
            for begin in cluster.domains.begins(sent.order)
            if begin.now > expires + ROUNDING_SECONDS
        ]
    return found


def _begun_by_a_clock_that_was_set(cluster: Cluster) -> list[str]:
    """A clock that is set back gives no time back to an order that has come."""
    found = []
    for sent in cluster.record.sent:
        expires, arrivals = sent.expires, cluster.record.arrivals[sent.order]
        if expires is None or not arrivals:
            continue
        latest = max(arrival.time + expires - arrival.now for arrival in arrivals)
        found += [
            f"{sent.order} began {begin.time - latest:.3f} s too late, as the clock was set back"
            for begin in cluster.domains.begins(sent.order)
            if begin.time > latest + ROUNDING_SECONDS
        ]
    return found


def _begun_after_a_cancellation(cluster: Cluster) -> list[str]:
    """An order that was cancelled with success is not done, and begins no more."""
    found = []
    for order, time in cluster.record.cancelled.items():
        if order in cluster.record.shared:
            continue
        if cluster.domains.done(order):
            found.append(f"{order} was cancelled with success, and was done")
        if any(begin.time > time for begin in cluster.domains.begins(order)):
            found.append(f"{order} began after it was cancelled with success")
    return found


def _dropped_early(cluster: Cluster) -> list[str]:
    """The broker drops an order only when it has expired."""
    found = []
    for time, message in cluster.network.broker.dropped:
        for sent in cluster.sent_with(message):
            left = 0.0 if sent.expires is None else sent.expires - cluster.now(sent, time)
            if not sent.clocks_differ and left > ROUNDING_SECONDS:
                found.append(f"the broker dropped {sent.order} {left:.3f} s before it expired")
    return found


def _untrue_answers(cluster: Cluster, answers: Answers) -> list[str]:
    """Each answer is true for the domain."""
    found = []
    for order, several in answers.items():
        for answer in several:
            (result,) = answer.results
            done = cluster.domains.done(order)
            success = result.status == "success"
            repeated = order in cluster.record.keyless and cluster.record.copies[order] > 1
            if success and not done:
                found.append(f"{order} was answered with success, and was not done")
            if order in cluster.record.shared:
                continue
            never = str(result.details).startswith("never begun, and never will be")
            if never and order not in cluster.record.keyless and cluster.domains.begins(order):
                found.append(f"{order} began, and was answered with {result.details!r}")
            if not success and done and not repeated:
                found.append(f"{order} was done, and was answered with {result.details!r}")
    return found


def _missing_answers(cluster: Cluster, answers: Answers) -> list[str]:
    """Each delivered order gets one answer, and each undelivered one none.

    A second daemon may vanish with the answer of an order that the first one has lost.
    """
    found = []
    for order, copies in cluster.record.copies.items():
        if order in cluster.record.shared:
            continue
        several = answers.get(order, set())
        if not several and copies > cluster.record.lost_copies[order]:
            found.append(f"{order} was delivered {copies} times, and got no answer")
        elif len(several) > 1 and order not in cluster.record.keyless:
            texts = [answer.to_yaml() for answer in several]
            found.append(f"{order} got {len(several)} different answers: {texts}")
    for order, sent in cluster.record.keyless.items():
        if cluster.record.published[order] < sent:
            published = cluster.record.published[order]
            found.append(f"{order} was sent {sent} times, and published {published} times")
    return found


def _untrue_clients(cluster: Cluster, answers: Answers) -> list[str]:
    """A client's result, and its words about a missing result, are true."""
    return [text for sent in cluster.record.sent if (text := _untrue(cluster, sent, answers))]


def _untrue(cluster: Cluster, sent: Sent, answers: Answers) -> str | None:
    order = sent.order
    if sent.lost:
        return None
    if sent.error is None:
        assert sent.handle is not None
        result = sent.handle._request.future.result()
        given = {answer.to_yaml() for answer in answers.get(order, ())}
        if without_executed(result).to_yaml() not in given:
            return f"the client has an answer for {order} that nobody gave: {result}"
        return None
    outcome = getattr(sent.error, "outcome", None)
    known = not sent.clocks_differ and order not in cluster.record.shared
    if outcome == "never begun" and cluster.domains.begins(order) and known:
        return f"the client said that {order} never began, and it did: {sent.error}"
    if outcome == "begun" and not sent.begun_then:
        return f"the client said that {order} began, and it had not: {sent.error}"
    return None
