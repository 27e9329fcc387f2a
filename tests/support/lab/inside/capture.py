"""Count the bytes that pass an interface, and those packets among them that have each pattern.

`python -m tests.support.lab.inside.capture INTERFACE PATTERN…` prints `ready`, reads until its
standard input ends, and prints all numbers.
"""

import select
import socket
import sys
from typing import Final

_ALL_PROTOCOLS: Final = 3
_LARGEST_PACKET: Final = 1 << 17
_BUFFER: Final = 64 << 20


def main(interface: str, *patterns: str) -> None:
    wanted = [pattern.encode() for pattern in patterns]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS)) as packets:
        packets.setsockopt(socket.SOL_SOCKET, _receive_buffer(), _BUFFER)
        packets.bind((interface, 0))
        print("ready", flush=True)
        size, hits = 0, [0] * len(wanted)
        while True:
            readable, _, _ = select.select([packets, sys.stdin], [], [])
            if packets in readable:
                data = packets.recv(_LARGEST_PACKET)
                size += len(data)
                for number, pattern in enumerate(wanted):
                    hits[number] += pattern in data
            elif sys.stdin in readable:
                break
    print(size, *hits, flush=True)


def _receive_buffer() -> int:
    """Return the option that sets the buffer without the limit for unprivileged users."""
    return int(getattr(socket, "SO_RCVBUFFORCE", 33))


if __name__ == "__main__":
    main(*sys.argv[1:])
