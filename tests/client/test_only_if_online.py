"""Tests of orders that are sent only to a daemon that is there."""

import pytest

from fastlib.client import HostOfflineError
from tests.support.client.factory import IN_MEMORY, ClientFactory
from tests.support.client.unanswered import shown
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
    client.suspend("hostA", "vm3", only_if_online=True)
    wait_until(lambda: daemon.received[-1].tasks[0].vm_name == "vm3", "the third order")


@IN_MEMORY
def test_host_without_presence_is_not_refused(clients: ClientFactory):
    daemon, client = clients.daemon(), clients.client()
    client.suspend("hostA", "vm1", only_if_online=True)
    client.suspend("hostA", "vm2", only_if_online=True)
    assert len(daemon.wait(2)) == 2
