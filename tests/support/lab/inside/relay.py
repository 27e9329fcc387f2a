"""The door to the broker: a listening socket that was made outside, on the machine's loopback.

`python -m tests.support.lab.inside.relay DESCRIPTOR ADDRESS PORT`. A socket stays in the network
namespace where it was made. This process therefore hears the machine and speaks to the laboratory,
and the network of the machine needs no interface for it.
"""

import asyncio
import socket
import sys


async def serve(listening: socket.socket, address: str, port: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            broker_reader, broker_writer = await asyncio.open_connection(address, port)
        except OSError:  # as the broker itself would: no connection
            writer.close()
            return
        await asyncio.gather(_copy(reader, broker_writer), _copy(broker_reader, writer))

    server = await asyncio.start_server(connected, sock=listening)
    await server.serve_forever()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one end is closed or broken; then the other is closed, too."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


if __name__ == "__main__":
    descriptor, host, number = sys.argv[1:]
    asyncio.run(serve(socket.socket(fileno=int(descriptor)), host, int(number)))
