"""A process with many daemons of one simulated cluster: `PORT FILE SPEED HOST…`.

It says `ready` once all of them work, and ends them in order when its standard input ends.
"""

import asyncio
import logging
import sys
from contextlib import AsyncExitStack

from fastlib.migfra import Daemon, read_configuration

AT_ONCE = 20
"""So many daemons open at the same time."""


async def main(port: str, file: str, speed: str, *hosts: str) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as daemons:
        for first in range(0, len(hosts), AT_ONCE):
            some = [daemon(host, port, file, speed) for host in hosts[first : first + AT_ONCE]]
            for opened in asyncio.as_completed([one.open() for one in some]):
                daemons.push_async_callback((await opened).close)
        print("ready", flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


def daemon(host: str, port: str, file: str, speed: str) -> Daemon:
    configuration = read_configuration(
        f"hostname: {host}\n"
        f"communicator: {{host: 127.0.0.1, port: {port}, qos: 2}}\n"
        f"hypervisor: {{type: simulated, file: {file}, speed: {speed}}}\n"
    )
    return Daemon(configuration, journal=f"{file}.{host}.journal")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    asyncio.run(main(*sys.argv[1:]))
