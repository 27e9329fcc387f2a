"""The HTTP server of the metrics. Its faults, and those of its clients, do not end the daemon."""

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from fastlib.migfra.failures import describe

log = logging.getLogger("fastlib.migfra")

REQUEST_SECONDS: Final = 10.0
"""Seconds without traffic after which a client is disconnected."""
PAUSE_SECONDS: Final = 0.5
"""Seconds of the pause after a connection that could not be accepted."""


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64
    _fails = False

    def get_request(self) -> Any:
        """Accept a connection.

        Raises OSError, after a pause. Without the pause, repeated failures, for example without a
        free file descriptor, would take all CPU time.
        """
        try:
            request = super().get_request()
        except OSError as error:
            if not self._fails:
                self._fails = True
                log.warning("metrics: connections cannot be accepted: %s", error)
            time.sleep(PAUSE_SECONDS)
            raise
        if self._fails:
            self._fails = False
            log.warning("metrics: connections can be accepted again")
        return request

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the error of a request, because writing it to standard error could fail."""
        log.debug("metrics: a request failed", exc_info=True)


def serve_app(app: Any, address: str, port: int) -> Callable[[], None]:
    """Serve a WSGI application; the returned function ends the server. Raises OSError."""
    try:
        family, host = _place(address, port)

        class Server(_Server):
            address_family = family

        server = make_server(host, port, app, Server, _Handler)
    except OSError as error:
        raise _cannot_be_served(address, port, error) from error
    thread = threading.Thread(target=_serve, args=(server,), daemon=True, name="metrics")
    thread.start()

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end


def check_port(address: str, port: int) -> None:
    """Raise the OSError with which `serve_app` would fail. The port is free again at once."""
    try:
        family, host = _place(address, port)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            probe.bind((host, port))
    except OSError as error:
        raise _cannot_be_served(address, port, error) from error


def _place(address: str, port: int) -> tuple[int, str]:
    """Return the family and the numeric form of an address. Raises OSError."""
    family, _, _, _, place = socket.getaddrinfo(
        address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    return family, str(place[0])


def _cannot_be_served(address: str, port: int, error: OSError) -> OSError:
    remedy = {
        errno.EADDRINUSE: "; another program listens there: give 'metrics: {port: ...}' a free one",
        errno.EADDRNOTAVAIL: "; give 'metrics: {address: ...}' an address of this host",
        errno.EACCES: "; give 'metrics: {port: ...}' one from 1024 on",
    }.get(error.errno or 0, "")
    reason = error.strerror or error
    return OSError(f"metrics cannot be served at {address} port {port}: {reason}{remedy}")


def _serve(server: WSGIServer) -> None:
    try:
        server.serve_forever()
    except Exception as error:  # the daemon continues without metrics
        log.error("the server of the metrics has stopped: %s", describe(error))
