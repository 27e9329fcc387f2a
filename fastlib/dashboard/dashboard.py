"""The web page as an ASGI application, and the state behind it. No route changes anything."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from html import escape
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from fastlib.client import AsyncMigfraClient, ClientError
from fastlib.extras import needs_extra
from fastlib.message import ResultContainer

from .access import COOKIE, SESSION_SECONDS, Access
from .histories import Histories, is_name
from .queries import Queries
from .state import State

with needs_extra("the dashboard", "starlette"):
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import RedirectResponse, Response, StreamingResponse
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

REFRESH_SECONDS: Final = 0.5
"""Seconds between two messages to a reader of events."""
HEARTBEAT_SECONDS: Final = 10.0
"""Seconds after which a reader gets a message without a change."""
TICK_SECONDS: Final = 1.0
"""Seconds between two checks of the connection to the broker."""
MAX_READERS: Final = 64
"""Maximum readers of events at the same time. Each has at most one message in memory."""
MAX_HISTORIES: Final = 8
"""Maximum requests for a history at the same time; further ones are refused."""
MAX_FORM: Final = 4096
"""Maximum bytes of the form with the token."""

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of all answers. The page loads nothing from other hosts, and no page may frame it."""

_STATIC: Final = {
    "dashboard.css": "text/css",
    "dashboard.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_OPEN_PATHS: Final = frozenset({"/login", "/static/dashboard.css", "/static/icon.svg"})
"""Paths that need no token."""


class Dashboard:
    """The page of a cluster: `app` serves it while `run` keeps its state."""

    def __init__(
        self,
        client: AsyncMigfraClient,
        access: Access,
        *,
        title: str = "",
        queries: bool = True,
        tasks: bool = False,
    ) -> None:
        """Show the messages that `client` receives; it must be open while `run` runs.

        `title` is shown on the page, such as the address of the broker. `queries` asks the daemons
        for their hosts and domains. `tasks` also reads the tasks that schedulers send, which have
        the destinations of migrations. Their XML may have passwords, which the page never shows.
        """
        self.state: Final = State()
        self._client = client
        self._access = access
        self._title = title
        self._tasks = tasks
        self._queries = Queries(client, self.state) if queries else None
        self._histories = Histories(client, self.state)
        self._waiting_histories = 0
        self._readers = 0
        self._closing = asyncio.Event()
        get = ["GET"]
        routes = [
            Route("/", self._page, methods=get),
            Route("/static/{name}", self._static, methods=get),
            Route("/api/state", self._state, methods=get),
            Route("/api/events", self._events, methods=get),
            Route("/api/history", self._history, methods=get),
        ]
        if access.needs_token:
            routes += [Route("/login", self._login, methods=["GET", "POST"])]
        self.app: Final[ASGIApp] = _Guard(Starlette(routes=routes), access)
        """The ASGI application."""

    @property
    def readers(self) -> int:
        """Number of browsers that read events now."""
        return self._readers

    async def run(self) -> None:
        """Keep the state up to date until cancelled. Raises ClientError and TransportError."""
        watch = await self._client.watch(tasks=self._tasks, progress=True, presence=True)
        loop = asyncio.get_running_loop()
        async with watch, asyncio.TaskGroup() as group:
            group.create_task(self._look())
            if self._queries is not None:
                group.create_task(self._queries.run())
            async for observed in watch:
                message = observed.message
                changed = set[str]()
                if isinstance(message, ResultContainer):
                    changed = {observed.host, *self.state.destinations(observed.host, message.id)}
                self.state.add(observed, loop.time())
                if self._queries is not None:
                    self._queries.soon(changed)
            raise ClientError(
                "the client was closed, so the state of the dashboard would be out of date"
            )

    def close(self) -> None:
        """End the streams of events. A server with open streams does not end."""
        self._closing.set()

    async def _look(self) -> None:
        """Note whether there is a connection to the broker."""
        while True:
            connected = self._client.communicator.is_connected
            self.state.set_broker(connected=connected, time=time.time())
            await asyncio.sleep(TICK_SECONDS)  # a change is not announced

    # --- routes

    async def _page(self, request: Request) -> Response:
        return _file("index.html", "text/html")

    async def _static(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _STATIC:
            return _problem(404, "there is no such file")
        return _file(name, _STATIC[name])

    def _message(self, since: int) -> bytes:
        changes = self.state.changes(since)
        changes["now"] = time.time()
        if not since:
            changes["title"] = self._title
            changes["queries"] = self._queries is not None
        return msgspec.json.encode(changes)

    async def _state(self, request: Request) -> Response:
        return Response(self._message(0), media_type="application/json")

    async def _events(self, request: Request) -> Response:
        if self._readers >= MAX_READERS:
            return _problem(503, f"{MAX_READERS} pages are open already; close one of them")
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[bytes]:
        """Yield the state, then the changes. A slow reader skips states."""
        self._readers += 1
        try:
            loop = asyncio.get_running_loop()
            seen, sent = 0, loop.time()
            while not self._closing.is_set():
                if seen != self.state.version or loop.time() > sent + HEARTBEAT_SECONDS:
                    message = self._message(seen)
                    seen, sent = self.state.version, loop.time()
                    yield b"data: " + message + b"\n\n"
                try:
                    async with asyncio.timeout(REFRESH_SECONDS):
                        await self._closing.wait()
                except TimeoutError:
                    continue  # the time of the next check
        finally:
            self._readers -= 1

    async def _history(self, request: Request) -> Response:
        name = request.query_params.get("vm", "")
        if not is_name(name):
            return _problem(400, "expected the name of a VM: /api/history?vm=NAME")
        if self._queries is None:
            return _problem(
                404, "this dashboard sends no queries, so it has no histories; use: fastlib log"
            )
        if self._waiting_histories >= MAX_HISTORIES:
            return _problem(503, "too many queries of histories are running; try again")
        self._waiting_histories += 1
        try:
            found = await self._histories.of(name)
        finally:
            self._waiting_histories -= 1
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def _login(self, request: Request) -> Response:
        if request.method != "POST":
            return _login_form()
        address = request.client.host if request.client else ""
        now = time.monotonic()
        if self._access.is_throttled(address, now):
            return _login_form("Too many wrong tokens. Wait a minute, then try again.", 429)
        body = b""
        try:
            async for part in request.stream():
                body += part
                if len(body) > MAX_FORM:
                    return _problem(413, "the form is too large")
        except ClientDisconnect:
            return Response(status_code=400)
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        if not self._access.is_token(given):
            self._access.note_failure(address, now)
            return _login_form("That is not the token.", 403)
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(
            COOKIE,
            self._access.new_cookie(time.time()),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=self._access.secure,
        )
        return response


class _Guard:
    """Refuses forbidden requests before they reach a route, and adds headers to answers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return  # no support for WebSockets and for start-up events

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        refusal = self._refuse(Request(scope))
        app: Callable[[Scope, Receive, Send], Awaitable[None]] = refusal or self._app
        await app(scope, receive, send_with_headers)

    def _refuse(self, request: Request) -> Response | None:
        """Return the answer to a request that is not allowed."""
        if not self._access.is_our_name(request.headers.get("host")):
            return _problem(
                421,
                "the request names a host that this server does not have; start the server with "
                "--name NAME, or use its address",
            )
        if request.headers.get("sec-fetch-site") == "cross-site" and (
            request.url.path != "/" or request.headers.get("sec-fetch-mode") != "navigate"
        ):
            return _problem(403, "pages of other sites may not read this one")
        path = request.url.path
        if path == "/login" and request.method == "POST" and not _is_own_origin(request):
            return _problem(403, "pages of other sites may not log in here")
        if path in _OPEN_PATHS or not self._access.needs_token or self._may_read(request):
            return None
        if path == "/":
            return RedirectResponse("/login", status_code=303)
        return _problem(401, "a token is required: log in, or send it as: Authorization: Bearer")

    def _may_read(self, request: Request) -> bool:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._access.is_token(given.strip())
        cookie = request.cookies.get(COOKIE)
        return cookie is not None and self._access.is_cookie(cookie, time.time())


def _is_own_origin(request: Request) -> bool:
    origin = request.headers.get("origin")
    # Browsers send "null" for forms of pages with a strict referrer policy, such as ours.
    if origin is None or origin == "null":
        return request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    return urlsplit(origin).netloc == request.headers.get("host")


def _login_form(problem: str = "", status: int = 200) -> Response:
    """Return the form for the token, with a sentence about the last try."""
    shown = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    text = _read_static("login.html").decode().replace("{problem}\n", f"{shown}\n" if shown else "")
    return Response(text, status, media_type="text/html; charset=utf-8")


def _file(name: str, kind: str) -> Response:
    media_type = f"{kind}; charset=utf-8" if "text" in kind else kind
    return Response(_read_static(name), media_type=media_type)


def _read_static(name: str) -> bytes:
    return files(__package__).joinpath("static", name).read_bytes()


def _problem(status: int, text: str) -> Response:
    return Response(msgspec.json.encode({"error": text}), status, media_type="application/json")
