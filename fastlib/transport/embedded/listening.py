"""The address on which a broker of this machine listens: checks, and errors with a remedy."""

import errno
import os
import socket
from typing import Final

from fastlib.argument_checks import check_int
from fastlib.transport.broker_url import address_text
from fastlib.transport.errors import ListenError, OptionsError

BACKLOG: Final = 1024


def check_port(port: int) -> int:
    """Return the port; 0 is any free one. Raises OptionsError and TypeError."""
    check_int("port", port)
    if not 0 <= port < 65536:
        raise OptionsError(f"a port must be a number from 0 to 65535, not {port}")
    return port


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises ListenError with the reason and a remedy."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        remedy = {
            errno.EADDRINUSE: "; port 0 is any that is free",
            errno.EADDRNOTAVAIL: "; the host must be an address of this machine",
            errno.EACCES: "; a port below 1024 needs root, so take a higher one",
        }.get(error.errno or 0, "")
        raise ListenError(f"cannot listen on {address_text(host, port)}: {why}{remedy}") from error
