"""A process that moves domains of a cluster in a file to and fro: `FILE HOST SPEED`.

It says `ready`, goes on until it is killed, and takes a step whenever it is allowed to.
"""

import asyncio
import sys
from functools import partial

from fastlib import Evacuate, EvacuateParameter, Start, Stop
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.simulated import SimulatedHypervisor, SimulatedOptions
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.hypervisor import NodeContext


async def main(file: str, host: str, speed: str) -> None:
    options = SimulatedOptions(
        file=file,
        speed=float(speed),
        start_seconds=0.1,
        stop_seconds=0.1,
        outgoing_migrations=100,
        incoming_migrations=100,
    )
    hypervisor = SimulatedHypervisor(options, NodeContext(host))
    await hypervisor.open()
    print("ready", flush=True)
    others = [name for name in "abc" if name != host]
    task = Evacuate(destinations=others, parameter=EvacuateParameter(migration_type="live"))
    while True:
        await hypervisor.evacuate(task, Context(host))
        for call in (
            partial(hypervisor.stop, Stop(vm_name="common")),
            partial(hypervisor.start, Start(vm_name="common")),
        ):
            try:
                await call(Context(host))
            except HypervisorError:
                await asyncio.sleep(0)  # it is where another process has it


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
