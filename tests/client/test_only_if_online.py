"""Tests of orders that are sent only to a daemon that is there."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from fastlib.client import HostOfflineError, presences
from fastlib.client.presences import PRESENCE_SECONDS, Presences
from fastlib.message.topics import PRESENCE
from tests.support.client.factory import IN_MEMORY, PATIENCE, ClientFactory
from tests.support.client.unanswered import shown
from tests.support.clock import StoppedClock
from tests.support.waiting import wait_until


def test_order_to_a_daemon_that_is_offline_can_be_refused(clients: ClientFactory):
    daemon = clients.daemon()
    daemon.presence("offline", instance="first")
    client = clients.client()  # at once, before it has received the presence
    with pytest.raises(HostOfflineError, match="daemon of 'hostA' is offline, so nothing was sent"):
        client.suspend("hostA", "vm1", only_if_online=True)
    assert client.suspend("hostA", "vm2", only_if_online=False).id == daemon.wait()[0].id
    daemon.presence("online", instance="second")
    shown(client, "online")
    third = client.suspend("hostA", "vm3", only_if_online=True)
    # The second order is repeated, before or after the third one.
    wait_until(lambda: third.id in [one.id for one in daemon.received], "the third order")


@IN_MEMORY
def test_host_without_presence_is_not_refused(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    client.suspend("hostA", "vm1", only_if_online=True)
    client.suspend("hostA", "vm2", only_if_online=True)
    assert len(daemon.wait(2)) == 2


@IN_MEMORY
def test_order_waits_for_the_presence_of_a_slow_broker(
    clients: ClientFactory, monkeypatch: pytest.MonkeyPatch
):
    """The broker confirms the subscription later than a presence may come after it."""
    clients.daemon().presence("offline", instance="first")
    client = clients.client()
    inner: Any = getattr(client, "inner", client)
    clock, asked = StoppedClock(), Future[tuple[Any, ...]]()
    confirmed = Future[None]()
    inner._core.presences._clock = clock
    communicator = inner._subscriptions._communicator
    subscribe = communicator.subscribe_now

    def subscribe_late(topic: str, *arguments: Any, **named: Any) -> "Future[None]":
        if topic != PRESENCE("hostA"):
            return subscribe(topic, *arguments, **named)
        clock.time += 10 * PATIENCE
        asked.set_result((topic, *arguments))
        return confirmed

    async def subscribe_in_loop(*arguments: Any) -> "Future[None]":
        return subscribe(*arguments, retained=True)

    monkeypatch.setattr(communicator, "subscribe_now", subscribe_late)
    monkeypatch.setattr(presences, "PRESENCE_SECONDS", float(PATIENCE))
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(client.suspend, "hostA", "vm1", only_if_online=True)
        arguments = asked.result(PATIENCE)
        clock.time += 10 * PATIENCE
        if client is inner:
            subscribe(*arguments, retained=True)
        else:
            asyncio.run_coroutine_threadsafe(subscribe_in_loop(*arguments), client._loop).result()
        confirmed.set_result(None)
        with pytest.raises(HostOfflineError):
            sent.result(PATIENCE)


def test_time_for_a_presence_begins_when_its_subscription_is_confirmed():
    clock = StoppedClock()
    known = Presences(clock, threading.RLock())
    confirm = known.listen("hostA")
    clock.time += 10 * PRESENCE_SECONDS
    confirm()
    clock.time += 0.25
    shown, left = known.await_first("hostA")
    assert (shown.done(), left) == (False, PRESENCE_SECONDS - 0.25)
    clock.time += PRESENCE_SECONDS
    assert known.await_first("hostA")[0].done()
