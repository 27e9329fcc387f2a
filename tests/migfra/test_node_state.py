"""The state that a hypervisor saves besides its tasks: in the journal, for its next run."""

import asyncio

import pytest

from fastlib import Start
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from tests.support.migfra.scripted import Scripted


def test_next_run_has_the_state_of_the_hypervisor(play):
    async def scene(bench):
        first = Scripted()
        daemon = await bench.daemon(first)
        assert first.node.saved_state == {}
        await asyncio.wrap_future(first.node.save_state(left=["vm1"], more=1))
        await asyncio.wrap_future(first.node.save_state(more=2))
        await bench.ask(Start(vm_name="vm1"), "1")
        await daemon.close()
        second = Scripted()
        await bench.daemon(second)
        assert second.node.saved_state == {"left": ["vm1"], "more": 2}

    play(scene)


def test_hypervisor_has_its_state_when_it_is_opened(play):
    class Reading(Scripted):
        async def open(self):
            self.found = self.node.saved_state

    async def scene(bench):
        first = Scripted()
        daemon = await bench.daemon(first)
        await asyncio.wrap_future(first.node.save_state(a=1))
        await daemon.close()
        second = Reading()
        await bench.daemon(second)
        assert second.found == {"a": 1}

    play(scene)


def test_state_without_a_daemon_is_not_stored():
    node = NodeContext("node01")
    assert node.save_state(a=1).result(0) is None
    assert node.saved_state == {"a": 1}


def test_state_must_have_values_of_json():
    node = NodeContext("node01")
    with pytest.raises(TypeError, match="a must be None"):
        node.save_state(a={1})
    assert node.saved_state == {}
