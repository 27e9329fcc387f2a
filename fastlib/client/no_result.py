"""Describe a request without a result: the state of the order, and how to find out more."""

import shlex

from .errors import NoResultError
from .outcome import Outcome, has_begun
from .request import PendingRequest

_MEANING = {
    "never begun": "the order was never begun and will not begin",
    "begun": "the order has begun, and its end is not known",
    "unknown": "whether the order has begun is unknown",
}


_NO_CONNECTION = "this client is not connected to the broker now, so it may miss a result"


def no_result(
    request: PendingRequest,
    outcome: Outcome,
    host_state: str | None,
    *,
    has_journal: bool,
    is_connected: bool,
) -> NoResultError:
    """Return the error of a request without a result.

    `host_state` is the last known state of the daemon, None if it has never reported its presence.
    `has_journal` is True for a fastlib daemon. `is_connected` is True if the client is connected to
    the broker.
    """
    facts = [
        outcome.reason if request.only_asks else f"{_MEANING[outcome.kind]}: {outcome.reason}",
        _sending(request),
        *([] if is_connected or outcome.kind == "never begun" else [_NO_CONNECTION]),
        *([] if host_state is None else [host_state]),
        *request.possible_answers,
    ]
    phase = None if request.progress is None else request.progress.phase
    if phase is not None and not has_begun(phase):  # the reason names each other phase
        facts.append(f"last seen in phase {phase!r}")
    if outcome.kind != "never begun" and not request.only_asks:
        facts.append(_how_to_find_out(request, has_journal=has_journal))
    waited = request.timeout is not None and not request.withdrawn
    within = f" within {request.timeout:g} s" if waited else ""
    return NoResultError(request, outcome, f"{request}: no result{within}; {'; '.join(facts)}")


def _sending(request: PendingRequest) -> str:
    at = request.sent.isoformat(sep=" ", timespec="seconds")
    if request.withdrawn:
        return f"it was submitted to the client {at}"
    sent = "delivered to the broker" if request.delivered else "not confirmed by the broker yet"
    return f"sent {at}, {sent}"


def _how_to_find_out(request: PendingRequest, *, has_journal: bool) -> str:
    host, id = request.host, request.id
    if has_journal:
        command = f"fastlib log {shlex.quote(id)} --host {shlex.quote(host)}"
        return f"to find out: `{command}`, or `client.history({host!r}, order_id={id!r})`"
    return "to find out, check the domains of the host: its daemon may keep no journal"
