"""Bound the number of connections, and end those that are silent or slow."""

import asyncio
from typing import Any, Final

from fastlib.extras import needs_extra

with needs_extra("the dashboard", "uvicorn"):
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS: Final = 256
"""Connections at the same time. One more ends the one that has waited for its request longest."""
REQUEST_SECONDS: Final = 10.0
"""The maximum time from a connection, or the last answer, until a request has arrived in full."""
STALL_SECONDS: Final = 60.0
"""The maximum time for which a reader may take nothing of an answer."""


class BoundedProtocol(H11Protocol):
    """The HTTP of uvicorn with limits. uvicorn itself waits for requests and readers for ever."""

    _request_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request. If there are too many connections, end one."""
        if len(self.connections) >= MAX_CONNECTIONS:
            waiting = [one for one in self.connections if isinstance(one, BoundedProtocol)]
            oldest = min(waiting, key=BoundedProtocol._deadline, default=None)
            if oldest is not None and oldest._request_timer is not None:
                oldest.transport.abort()
                self.connections.discard(oldest)
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the timers."""
        for timer in (self._request_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle what has arrived. The time is over for a request that is not complete by then."""
        super().handle_events()
        is_complete = self.conn.their_state not in (h11.IDLE, h11.SEND_BODY)
        if is_complete and self._request_timer is not None:
            self._request_timer.cancel()
            self._request_timer = None

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, before the part of it that is there is handled."""
        self._await_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait for a reader that is slower than the answer."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Note that the reader has taken something."""
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _await_request(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
        self._request_timer = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _deadline(self) -> float:
        """Return when the time for the request is over; infinite if there is a request."""
        timer: Any = self._request_timer
        return float("inf") if timer is None else timer.when()
