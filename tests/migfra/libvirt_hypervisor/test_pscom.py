"""The pscom processes of a domain are asked over a broker, and all of them have to answer."""

import asyncio

import pytest

from fastlib.migfra import Context, HypervisorError
from fastlib.migfra.hypervisor import Node
from fastlib.migfra.hypervisors.libvirt.pscom import Pscom, count_of
from fastlib.transport import MemoryBroker, MemoryOptions, connect_async

PATIENCE = 30.0


@pytest.mark.parametrize("answering", [3, 2])
def test_suspend_and_resume(answering):
    asked = []

    async def scene():
        broker = MemoryBroker()
        options = MemoryOptions(broker=broker)
        async with await connect_async(options) as own, await connect_async(options) as processes:

            async def answer(message):
                asked.append(message.payload)
                for number in range(answering):
                    await processes.send(b"done", f"fast/pscom/vm1/p{number}/response")

            await processes.subscribe("fast/pscom/vm1/any_proc/request", answer)
            pscom = Pscom(
                Node("node01"), Context("node01", communicator=own), "vm1", 3,
                PATIENCE if answering == 3 else 0.2,
            )  # fmt: skip
            await pscom.suspend()
            await pscom.resume()

    if answering == 3:
        asyncio.run(scene())
        assert asked == [b"suspend", b"resume"]
    else:
        with pytest.raises(HypervisorError, match="2 of 3 pscom processes in vm1 have answered"):
            asyncio.run(scene())


def test_counts():
    assert [count_of(text, 4) for text in (None, "auto", "0", "17")] == [0, 4, 0, 17]
    for text in ("", "-1", "many", "1e3", "9999999"):
        with pytest.raises(HypervisorError, match="pscom-hook-procs is a count or auto"):
            count_of(text, 4)
