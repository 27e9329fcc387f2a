"""Answer tasks in a measured process: `KIND PORT DIRECTORY`. It prints `ready` at its start.

`loop` reads each container and answers it with success. `memory` is a daemon whose hypervisor does
nothing, with a journal in memory; `migfra` the same with its journal on the disk of DIRECTORY. The
process ends with its standard input.
"""

import asyncio
import sys
from pathlib import Path

from fastlib import Result, ResultContainer, TaskContainer
from fastlib.message.topics import RESULT, TASK
from fastlib.migfra import Daemon, read_configuration
from fastlib.migfra.service.memory import collect_rarely
from fastlib.transport import MqttOptions, ReceivedMessage, connect_async

HOST = "node01"
QOS = 2


async def loop(port: int) -> None:
    """Answer without a daemon, and without executing or storing anything."""
    communicator = await connect_async(MqttOptions(host="127.0.0.1", port=port))

    async def answer(message: ReceivedMessage) -> None:
        container = TaskContainer.from_yaml(message.payload)
        results = [
            Result(vm_name=getattr(task, "vm_name", "n/a"), status="success")
            for task in container.tasks
        ]
        payload = ResultContainer.answer(container, results).to_yaml().encode()
        await communicator.send(payload, RESULT(HOST), QOS)

    await communicator.subscribe(TASK(HOST), answer)
    await _ended()
    await communicator.close()


async def daemon(port: int, journal: Path | None) -> None:
    """Answer by a daemon of `migfra`."""
    configuration = read_configuration(
        f"hostname: {HOST}\n"
        f"communicator: {{host: 127.0.0.1, port: {port}, qos: {QOS}}}\n"
        "hypervisor: {type: dummy}\n"
    )
    async with Daemon(configuration, journal=journal, in_memory=journal is None):
        collect_rarely()  # as the program does
        await _ended()


async def _ended() -> None:
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main(kind: str, port: str, directory: str) -> None:
    if kind == "loop":
        asyncio.run(loop(int(port)))
    else:
        journal = Path(directory, "journal") if kind == "migfra" else None
        asyncio.run(daemon(int(port), journal))


if __name__ == "__main__":
    main(*sys.argv[1:])
