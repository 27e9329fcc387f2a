"""The history of a VM, from the journals of all daemons that are online."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from fastlib.client import AsyncMigfraClient, ClientError
from fastlib.message import HistoryReport, OrderReport

from .state import MAX_NAME, State, cut, short

ANSWER_SECONDS: Final = 10.0
MAX_ORDERS: Final = 50
"""Orders of a history: the newest."""
MAX_EVENTS: Final = 100
"""Events of an order."""
MAX_IN_FLIGHT: Final = 16
"""Hosts that are asked at the same time."""
KEPT_SECONDS: Final = 3.0
"""Seconds for which an answer is given again, without asking the daemons."""
MAX_KEPT: Final = 16


class Histories:
    """Asks the daemons for the history of a VM, one VM at a time."""

    def __init__(self, client: AsyncMigfraClient, state: State) -> None:
        self._client = client
        self._state = state
        self._one = asyncio.Lock()
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}

    async def of(self, name: str) -> dict[str, Any]:
        """Return the orders about a VM as a plain tree, the newest first.

        `missing` has the reason for each host that has told nothing.
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
                except ClientError as error:
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
            "missing": [{"host": host, "reason": why} for host, why in sorted(missing.items())],
        }


def is_name(name: str) -> bool:
    """Return whether a VM can have that name, and the page shows it in full."""
    return 0 < len(name) <= MAX_NAME


def _orders(host: str, name: str, report: HistoryReport) -> list[dict[str, Any]]:
    return [_order(host, name, order) for order in report.orders[:MAX_ORDERS]]


def _order(host: str, name: str, order: OrderReport) -> dict[str, Any]:
    errors = [
        result
        for result in order.results
        if result.status != "success" and result.vm_name in (name, "", "n/a")
    ]
    own = [result for result in order.results if result.vm_name == name]
    status: str | None = order.status
    if own:
        status = own[0].status
    number = len(order.vm_names) + (order.vm_names_left_out or 0)
    return {
        "host": host,
        "task": short(order.task or ""),
        "id": short(order.id or ""),
        "state": short(order.state),
        "status": status,
        "domains": number,
        "accepted": order.accepted.timestamp(),
        "began": None if order.began is None else order.began.timestamp(),
        "answered": None if order.answered is None else order.answered.timestamp(),
        "details": [cut(result.details) for result in errors[:5] if result.details],
        "events": _events(name, order),
    }


def _events(name: str, order: OrderReport) -> Sequence[dict[str, Any]]:
    return [
        {
            "time": event.time.timestamp(),
            "event": short(event.event),
            "details": None if event.details is None else cut(event.details),
        }
        for event in order.events
        if event.vm_name in (None, "", "n/a", name)
    ][:MAX_EVENTS]
