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
    answers = _answers(cluster)
    return [
        *cluster.errors,
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
    for payloads in cluster.answers.values():
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
    found = []
    for order, begins in cluster.domains.begins.items():
        allowed = cluster.copies[order] if order in cluster.keyless else 1
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
    return [
        f"{order} was sent {sent} times, and began {begun} times, with {crashes} crashes"
        for order, sent in cluster.keyless.items()
        if (begun := cluster.domains.first_begins(order)) + crashes < sent
    ]


def _begun_late(cluster: Cluster) -> list[str]:
    """No order begins after it has expired, by the clock of its host."""
    found = []
    for sent in cluster.sent:
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


def _untrue_answers(cluster: Cluster, answers: dict[Order, set[ResultContainer]]) -> list[str]:
    """Each answer says what has happened to the domain."""
    found = []
    for order, several in answers.items():
        for answer in several:
            (result,) = answer.results
            done = cluster.domains.done(order)
            success = result.status == "success"
            repeated = order in cluster.keyless and cluster.keyless[order] > 1
            if success and not done:
                found.append(f"{order} was answered with success, and was not done")
            never = str(result.details).startswith("never begun, and never will be")
            if never and order not in cluster.keyless and cluster.domains.begins[order]:
                found.append(f"{order} began, and was answered with {result.details!r}")
            if not success and done and not repeated:
                found.append(f"{order} was done, and was answered with {result.details!r}")
    return found


def _missing_answers(cluster: Cluster, answers: dict[Order, set[ResultContainer]]) -> list[str]:
    """Each delivered order gets one answer, and each undelivered one none."""
    found = []
    for order, copies in cluster.copies.items():
        several = answers.get(order, set())
        if not several:
            found.append(f"{order} was delivered {copies} times, and got no answer")
        elif len(several) > 1 and order not in cluster.keyless:
            texts = [answer.to_yaml() for answer in several]
            found.append(f"{order} got {len(several)} different answers: {texts}")
    for order, sent in cluster.keyless.items():
        if cluster.copies[order] < sent:
            found.append(f"{order} was sent {sent} times, and delivered {cluster.copies[order]}")
    return found


def _untrue_clients(cluster: Cluster, answers: dict[Order, set[ResultContainer]]) -> list[str]:
    """What a client returns or says about a missing result is true."""
    return [text for sent in cluster.sent if (text := _untrue(cluster, sent, answers))]


def _untrue(cluster: Cluster, sent: Sent, answers: dict[Order, set[ResultContainer]]) -> str | None:
    order = sent.order
    if sent.error is None:
        assert sent.handle is not None
        result = sent.handle._request.future.result()
        given = {answer.to_yaml() for answer in answers.get(order, ())}
        if _without_executed(result).to_yaml() not in given:
            return f"the client has an answer for {order} that nobody gave: {result}"
        return None
    outcome = getattr(sent.error, "outcome", None)
    if outcome == "never begun" and cluster.domains.begins[order]:
        return f"the client said that {order} never began, and it did: {sent.error}"
    if outcome == "begun" and not sent.begun_then:
        return f"the client said that {order} began, and it had not: {sent.error}"
    return None
