"""The record of a schedule for the invariants, and its writers."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from fastlib import ResultContainer
from fastlib.client import AsyncHandle
from fastlib.message import topics

from .broker import Message, Network, Packet
from .orders import Order, order_in
from .process import Process

TITLES: Final = {"vm started": "start vm", "vm stopped": "stop vm", "vm migrated": "migrate vm"}
"""The titles of orders, by the titles of their results."""


@dataclass
class Sent:
    """An order of a scheduler, and its client's report."""

    order: Order
    host: str
    scheduler: int
    timeout: float | None = None
    handle: AsyncHandle[Any] | None = None
    """None until the client has sent it."""
    clocks_differ: bool = False
    """True if the clocks of scheduler and host have differed by more than the client tolerates."""
    lost: bool = False
    """True if the scheduler died before it had the handle, so that nobody waits for a result."""
    error: BaseException | None = None
    """What the client raised instead of an answer."""
    over: bool = False
    """True once the client has given a result or an error."""
    begun_then: bool = False
    """Whether the order had begun when the client raised the error."""

    @property
    def expires(self) -> float | None:
        """Seconds since 1970, by the clock of the scheduler."""
        expires = None if self.handle is None else getattr(self.handle.container, "expires", None)
        return None if expires is None else expires.timestamp()


class Arrival(NamedTuple):
    """An order has come to a daemon."""

    time: float
    """The time of the loop."""
    now: float
    """Seconds since 1970 by the clock of the daemon's host."""
    daemon: str
    """The name of the process."""


class Takeover(NamedTuple):
    """The time for which a second daemon had a host, with one connection to the broker."""

    host: str
    began: float
    """The time of the loop."""
    ended: float


class Record:
    """The record of a schedule, for the invariants."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        """What nobody has caught."""
        self.published: defaultdict[Order, int] = defaultdict(int)
        """How often the broker has published an order."""
        self.hosts: dict[Order, str] = {}
        """The host of each order that was published."""
        self.copies: defaultdict[Order, int] = defaultdict(int)
        """How often the broker has queued an order for a daemon."""
        self.lost_copies: defaultdict[Order, int] = defaultdict(int)
        """How many of the copies of an order the broker has dropped or forgotten, at most."""
        self.arrivals: defaultdict[Order, list[Arrival]] = defaultdict(list)
        """When an order has come to a daemon."""
        self.noted: set[tuple[Order, str]] = set()
        """The orders that a client has acknowledged, with its id: they are in its journal."""
        self.answers: defaultdict[str, list[bytes]] = defaultdict(list)
        """The payloads that the broker has published as results, by host."""
        self.sent: list[Sent] = []
        self.cancelled: dict[Order, float] = {}
        """The orders that were cancelled with success, with the time of the loop."""
        self.keyless: defaultdict[Order, int] = defaultdict(int)
        """How often the C++-like sender has sent an order."""
        self.beside: list[str] = []
        """The hosts where a second daemon has begun to work beside the first."""
        self.untrue_presences: list[str] = []
        """What the presence of a daemon that had ended did not say."""
        self.taken_over: set[str] = set()
        """The hosts that a second daemon took over in the absence of the first one."""
        self.takeovers: list[Takeover] = []
        """When they had them."""
        self.shared: set[Order] = set()
        """The orders that the second daemon may have got as well as the first one.

        Each may execute them, as each has its own journal.
        """

    def answers_by_order(self) -> dict[Order, set[ResultContainer]]:
        """Return the different answers to each order, without the note that one is stored."""
        found: defaultdict[Order, set[str]] = defaultdict(set)
        texts: dict[str, ResultContainer] = {}
        for payloads in self.answers.values():
            for payload in payloads:
                answer = ResultContainer.from_yaml(payload)
                if answer.result not in TITLES:
                    continue  # of a query
                plain = without_executed(answer)
                text = plain.to_yaml()
                texts[text] = plain
                order = (TITLES[answer.result], answer.results[0].vm_name)
                found[order].add(text)
        return {order: {texts[text] for text in several} for order, several in found.items()}

    def ended(self) -> set[Order]:
        """Return the orders with a key that were answered, and that no client waits for."""
        waiting = {sent.order for sent in self.sent if not sent.over}
        return self.answers_by_order().keys() - waiting - self.keyless.keys()


def without_executed(answer: Any) -> Any:
    """Return an answer without the time that says that it is a stored one."""
    if getattr(answer, "executed", None) is None:
        return answer
    return msgspec.structs.replace(answer, executed=None)


class Observer:
    """Records the broker's handling of orders and answers."""

    def __init__(self, network: Network, client_ids: dict[str, str]) -> None:
        """`client_ids` are those of the daemons, by host."""
        self.record = Record()
        self.wills_lost = -math.inf
        """The time of the loop until which the broker was down last: it knows no last wills then.

        So it does not hear of a daemon that ends meanwhile, or has just ended.
        """
        self._network = network
        self._client_ids = client_ids
        network.broker.listeners.append(self._published)
        network.broker.on_drop = lambda message: self.lose((message,))
        network.broker.on_acknowledgement = self._acknowledged
        network.on_delivery = self._delivered

    def is_forgotten(self, host: str) -> bool:
        """Return True if the broker has forgotten that a host's daemon wants its orders."""
        return (self._client_ids[host], topics.TASK(host)) in self._network.broker.forgotten

    def lose(self, messages: Iterable[Message | None]) -> None:
        """Note that the broker has dropped or forgotten messages for a daemon."""
        for message in messages:
            if message is not None and message.topic.endswith("/task"):
                order = order_in(message.payload)
                if order is not None:
                    self.record.lost_copies[order] += 1

    def forget_session(self, client_id: str) -> None:
        """Make the broker forget the session of a client that does not start again."""
        session = self._network.broker.sessions.pop(client_id, None)
        if session is not None:
            self.lose((*session.queue, *session.in_flight.values()))

    def _published(self, client_id: str, message: Message, receivers: int) -> None:
        host, kind = message.topic.split("/")[-2:]
        if kind == "task":
            if (order := order_in(message.payload)) is not None:
                self.record.published[order] += 1
                self.record.hosts[order] = host
                if not receivers and not self.is_forgotten(host):
                    receivers = 1  # a daemon keeps its session, so it must get the order
                self.record.copies[order] += receivers
        elif kind == "result":
            self.record.answers[host].append(message.payload)

    def _acknowledged(self, client_id: str, message: Message) -> None:
        if message.topic.endswith("/task") and (order := order_in(message.payload)) is not None:
            self.record.noted.add((order, client_id))

    def _delivered(self, process: Process | None, packet: Packet) -> None:
        if process is not None and packet.topic.endswith("/task"):
            order = order_in(packet.payload)
            if order is not None:
                self.record.arrivals[order].append(
                    Arrival(self._network.loop.time(), process.now(), process.name)
                )
