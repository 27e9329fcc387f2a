"""Answer tasks in a measured process: `KIND PORT DIRECTORY`. It prints `ready` at its start.

`loop` reads each container and answers it with success. `floor` also stores some bytes on the disk
of DIRECTORY before that, twice in a row, in a thread, without a database. `memory` is a daemon
whose hypervisor does nothing, with a journal in memory; `migfra` the same with its journal on the
disk of DIRECTORY. The process ends with its standard input.
"""

import asyncio
import os
import sys
from pathlib import Path

from fastlib import Result, ResultContainer, TaskContainer
from fastlib.message.topics import RESULT, TASK
from fastlib.migfra import Daemon, read_configuration
from fastlib.migfra.journal.commit_thread import CommitThread
from fastlib.migfra.service.memory import collect_rarely
from fastlib.transport import MqttOptions, ReceivedMessage, connect_async

HOST = "node01"
QOS = 2
COMMIT_BYTES = 5 * 4096
"""Bytes of each commit of `floor`: about the pages that the acceptance of an order changes."""


class Disk:
    """A file that is overwritten and synchronized, in a thread as that of the journal."""

    def __init__(self, path: Path) -> None:
        self._thread = CommitThread("disk")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
        os.pwrite(self._descriptor, bytes(COMMIT_BYTES), 0)
        os.fsync(self._descriptor)

    async def commit(self) -> None:
        """Return when the bytes are on the disk."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write)

    def _write(self) -> None:
        os.pwrite(self._descriptor, bytes(COMMIT_BYTES), 0)
        os.fdatasync(self._descriptor)


async def loop(port: int, path: Path | None) -> None:
    """Answer without a daemon. With a path, store something before each answer, twice in a row."""
    communicator = await connect_async(MqttOptions(host="127.0.0.1", port=port))
    disk = None if path is None else Disk(path)

    async def answer(message: ReceivedMessage) -> None:
        container = TaskContainer.from_yaml(message.payload)
        if disk is not None:
            await disk.commit()
            await disk.commit()
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
    if kind in ("loop", "floor"):
        asyncio.run(loop(int(port), Path(directory, "file") if kind == "floor" else None))
    else:
        journal = Path(directory, "journal") if kind == "migfra" else None
        asyncio.run(daemon(int(port), journal))


if __name__ == "__main__":
    main(*sys.argv[1:])
