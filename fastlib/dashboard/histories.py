"""The history of a VM, from the journals of all daemons that are online."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from fastlib.client import AsyncMigfraClient, ClientError
from fastlib.display.message_text import NO_DOMAIN
from fastlib.display.order_story import (
    MAX_ERRORS,
    Place,
    event_text,
    focus_of,
    headline_parts,
    result_texts,
    status_of,
    told_reasons,
)
from fastlib.display.text import natural_key
from fastlib.message import HistoryReport, OrderReport
from fastlib.transport.errors import RefusedError

from .state import State
from .texts import MAX_NAME, cut, short

ANSWER_SECONDS: Final = 10.0
MAX_ORDERS: Final = 50
"""Maximum orders of a history, the newest ones."""
MAX_EVENTS: Final = 100
"""Maximum events of an order."""
MAX_IN_FLIGHT: Final = 16
"""Maximum hosts that are queried at the same time."""
KEPT_SECONDS: Final = 3.0
"""Seconds for which an answer is used again without a query."""
MAX_KEPT: Final = 16


class Histories:
    """Queries the daemons for the history of a VM, one VM at a time."""

    def __init__(self, client: AsyncMigfraClient, state: State) -> None:
        self._client = client
        self._state = state
        self._one = asyncio.Lock()
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}

    async def of(self, name: str) -> dict[str, Any]:
        """Return the orders of a VM as a plain tree, the newest first.

        `missing` has the reason for each host without a report.
        """
        loop = asyncio.get_running_loop()
        async with self._one:
            until, kept = self._kept.get(name, (0.0, {}))
            if loop.time() < until:
                return kept
            found = await self._ask(name)
            self._kept[name] = loop.time() + KEPT_SECONDS, found
            while len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]
            return found

    async def _ask(self, name: str) -> dict[str, Any]:
        room = asyncio.Semaphore(MAX_IN_FLIGHT)
        asked = [(host, self._state.host(host)) for host in self._state.hosts]
        hosts = [host for host, view in asked if view and view.status in ("online", "degraded")]
        missing = {
            host: "it is offline" for host, view in asked if view and view.status == "offline"
        }

        async def ask(host: str) -> list[dict[str, Any]]:
            async with room:
                try:
                    handle = await self._client.history(
                        host, vm_name=name, limit=MAX_ORDERS, timeout=ANSWER_SECONDS
                    )
                    result = await handle
                except (ClientError, RefusedError) as error:
                    missing[host] = cut(str(error))
                    return []
            if result.history is None:
                missing[host] = cut(result.details or "it answered without a history")
                return []
            return _orders(host, name, result.history)

        found = await asyncio.gather(*map(ask, hosts))
        orders = [order for of_host in found for order in of_host]
        orders.sort(key=lambda order: order["accepted"], reverse=True)
        return {
            "vm": name,
            "orders": orders[:MAX_ORDERS],
            "more": len(orders) > MAX_ORDERS,
            "asked": len(hosts),
            "missing": [
                {"host": host, "reason": missing[host]} for host in sorted(missing, key=natural_key)
            ],
        }


def is_name(name: str) -> bool:
    """Return whether a VM can have that name, and the page shows it in full."""
    return 0 < len(name) <= MAX_NAME


def _orders(host: str, name: str, report: HistoryReport) -> list[dict[str, Any]]:
    return [
        _order(order, Place(host, report.time, focus_of(order, name)))
        for order in report.orders[:MAX_ORDERS]
    ]


def _order(order: OrderReport, place: Place) -> dict[str, Any]:
    """Return an order in the words of `fastlib log`; times are Unix times."""
    return {
        "host": place.host,
        "task": short(order.task or ""),
        "id": short(order.id or ""),
        "state": short(order.state),
        "status": status_of(order, place),
        "accepted": order.accepted.timestamp(),
        "sentence": [
            cut(part) if isinstance(part, str) else part.timestamp()
            for part in headline_parts(order, place)
        ],
        "details": [cut(text) for text in result_texts(order, place)[:MAX_ERRORS]],
        "events": _events(order, place),
    }


def _events(order: OrderReport, place: Place) -> Sequence[dict[str, Any]]:
    reasons = told_reasons(order, place)
    several = len(order.vm_names) > 1
    return [
        {
            "time": event.time.timestamp(),
            "event": short(event.event),
            "details": cut(event_text(event, place, reasons, several=several)),
        }
        for event in order.events
        if place.focus is None or event.vm_name in (None, *NO_DOMAIN, place.focus)
    ][:MAX_EVENTS]
