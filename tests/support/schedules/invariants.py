"""What must hold after every schedule, once nothing is under way any more."""

from collections import defaultdict
from typing import Any, Final

import msgspec

from fastlib import ResultContainer

from .cluster import Cluster, Sent
from .hypervisor import Order
from .process import EPOCH

ROUNDING_SECONDS: Final = 1e-5
"""The tolerated inaccuracy of times, which travel in microseconds."""

TITLES: Final = {"vm started": "start vm", "vm stopped": "stop vm", "vm migrated": "migrate vm"}
"""The titles of orders, by the titles of their results."""


def violations(cluster: Cluster) -> list[str]:
    """Return a sentence for each violated invariant."""
    if cluster.record.took_over:
        # Two daemons of one host may both execute an order, each with a journal of its own. So
        # only what holds for each of them is checked.
        return [*cluster.record.errors, *_dropped_early(cluster), *_begun_late(cluster)]
    answers = _answers(cluster)
    return [
        *cluster.record.errors,
        *cluster.record.untrue_presences,
        *(f"two daemons of {host} work side by side" for host in cluster.record.beside),
        *_begun_by_a_clock_that_was_set(cluster),
        *_begun_after_a_cancellation(cluster),
        *_dropped_early(cluster),
        *(f"the daemon of {h.name} failed: {e!r}" for h in cluster.hosts for e in h.failures),
        *_begun_twice(cluster),
        *_not_begun(cluster),
        *_begun_late(cluster),
        *_untrue_answers(cluster, answers),
        *_missing_answers(cluster, answers),
        *_untrue_clients(cluster, answers),
    ]


def _answers(cluster: Cluster) -> dict[Order, set[ResultContainer]]:
    """Return the different answers to each order, without the note that one is stored."""
    found: defaultdict[Order, set[str]] = defaultdict(set)
    texts: dict[str, ResultContainer] = {}
    for payloads in cluster.record.answers.values():
        for payload in payloads:
            answer = ResultContainer.from_yaml(payload)
            if answer.result not in TITLES:
                continue  # of a query
            plain = _without_executed(answer)
            text = plain.to_yaml()
            texts[text] = plain
            order = (TITLES[answer.result], answer.results[0].vm_name)
            found[order].add(text)
    return {order: {texts[text] for text in several} for order, several in found.items()}


def _without_executed(answer: Any) -> Any:
    if getattr(answer, "executed", None) is None:
        return answer
    return msgspec.structs.replace(answer, executed=None)


def _begun_twice(cluster: Cluster) -> list[str]:
    """No order with a key begins twice. One without begins at most once for each copy."""
    found = [
        f"{order} of an earlier schedule began again"
        for order, begins in cluster.domains.begins.items()
        if begins and order in cluster.domains.over
    ]
    for order, begins in cluster.domains.begins.items():
        allowed = cluster.record.copies[order] if order in cluster.record.keyless else 1
        first = [begin for begin in begins if begin.attempt == 0]
        if len(first) > allowed:
            times = ", ".join(f"{begin.now - EPOCH:.3f}" for begin in first)
            found.append(f"{order} began {len(first)} times (at {times}), at most {allowed} wanted")
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
        begun = cluster.domains.first_begins(order)
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
            for begin in cluster.domains.begins[sent.order]
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
            for begin in cluster.domains.begins[sent.order]
            if begin.time > latest + ROUNDING_SECONDS
        ]
    return found


def _begun_after_a_cancellation(cluster: Cluster) -> list[str]:
    """An order that was cancelled with success is not done, and begins no more."""
    found = []
    for order, time in cluster.record.cancelled.items():
        if cluster.domains.done(order):
            found.append(f"{order} was cancelled with success, and was done")
        if any(begin.time > time for begin in cluster.domains.begins[order]):
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


def _untrue_answers(cluster: Cluster, answers: dict[Order, set[ResultContainer]]) -> list[str]:
    """Each answer says what has happened to the domain."""
    found = []
    for order, several in answers.items():
        for answer in several:
            (result,) = answer.results
            done = cluster.domains.done(order)
            success = result.status == "success"
            repeated = order in cluster.record.keyless and cluster.record.copies[order] > 1
            if success and not done:
                found.append(f"{order} was answered with success, and was not done")
            never = str(result.details).startswith("never begun, and never will be")
            if never and order not in cluster.record.keyless and cluster.domains.begins[order]:
                found.append(f"{order} began, and was answered with {result.details!r}")
            if not success and done and not repeated:
                found.append(f"{order} was done, and was answered with {result.details!r}")
    return found


def _missing_answers(cluster: Cluster, answers: dict[Order, set[ResultContainer]]) -> list[str]:
    """Each delivered order gets one answer, and each undelivered one none."""
    found = []
    for order, copies in cluster.record.copies.items():
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


def _untrue_clients(cluster: Cluster, answers: dict[Order, set[ResultContainer]]) -> list[str]:
    """What a client returns or says about a missing result is true."""
    return [text for sent in cluster.record.sent if (text := _untrue(cluster, sent, answers))]


def _untrue(cluster: Cluster, sent: Sent, answers: dict[Order, set[ResultContainer]]) -> str | None:
    order = sent.order
    if sent.lost:
        return None
    if sent.error is None:
        assert sent.handle is not None
        result = sent.handle._request.future.result()
        given = {answer.to_yaml() for answer in answers.get(order, ())}
        if _without_executed(result).to_yaml() not in given:
            return f"the client has an answer for {order} that nobody gave: {result}"
        return None
    outcome = getattr(sent.error, "outcome", None)
    if outcome == "never begun" and cluster.domains.begins[order] and not sent.clocks_differ:
        return f"the client said that {order} never began, and it did: {sent.error}"
    if outcome == "begun" and not sent.begun_then:
        return f"the client said that {order} began, and it had not: {sent.error}"
    return None
