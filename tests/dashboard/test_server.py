"""The server over real sockets: routes, headers, tokens, strangers, slow readers, its end."""

import asyncio
import http.client
import json
import socket
from contextlib import ExitStack, suppress
from datetime import datetime
from urllib.parse import quote, urlencode

import pytest

from fastlib.client import ClientError, ObservedMessage
from fastlib.dashboard import connections, queries
from fastlib.dashboard import dashboard as module
from fastlib.demo.settings import Settings
from fastlib.message import Result, ResultContainer
from tests.support.dashboard.cluster import DashboardCluster
from tests.support.mosquitto import PATIENCE
from tests.support.waiting import wait_until

TOKEN = "correct horse battery staple"
SETTINGS = Settings(hosts=3, vms=6)
PATHS = ("/", "/static/dashboard.js", "/api/state", "/api/events", "/api/history?vm=vm-1")


@pytest.fixture(scope="module")
def free():
    """A dashboard that everybody on this machine may read."""
    with DashboardCluster(SETTINGS) as cluster:
        cluster.start_vms()
        yield cluster


@pytest.fixture(scope="module")
def locked():
    """A dashboard that needs a token."""
    with DashboardCluster(SETTINGS, token=TOKEN) as cluster:
        yield cluster


def ask(cluster, path, *, method="GET", body=None, **headers):
    """Return the status, the headers and the body of an answer; of a stream only its first line."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=PATIENCE)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        stream = answer.headers.get("content-type", "").startswith("text/event-stream")
        text = answer.readline() if stream else answer.read()
        return answer.status, answer.headers, text.decode()
    finally:
        connection.close()


def state_of(cluster, until):
    """Return the state once it fulfils a condition."""

    def look():
        found = json.loads(ask(cluster, "/api/state")[2])
        return found if until(found) else None

    return wait_until(look, "the state", PATIENCE)


def test_state_has_hosts_with_load_and_domains(free):
    def complete(state):
        hosts = sorted(state["hosts"], key=lambda host: host["name"])
        loaded = hosts and hosts[0].get("free_memory", 0) < hosts[0].get("memory", 0)
        return loaded and sum(len(host.get("domains", ())) for host in hosts) == 6

    found = state_of(free, complete)
    assert {host["name"] for host in found["hosts"]} == set(free.cluster.hosts)
    first = min(found["hosts"], key=lambda host: host["name"])
    assert (first["status"], first["cpus"] > 0, first["free_memory"] < first["memory"]) == (
        "online", True, True,
    )  # fmt: skip
    assert first["domains"][0]["state"] == "running"
    assert [node["id"] for node in first["hardware"]["numa_nodes"]] == [0, 1]
    assert first["hardware"]["storage_pools"][0]["name"] == "default"
    assert (found["title"], found["broker"]["connected"]) == ("simulated", True)


def test_events_begin_with_the_whole_state(free):
    status, headers, line = ask(free, "/api/events")
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert line.startswith("data: ")
    assert json.loads(line[6:])["full"]


def test_history_of_a_vm(free):
    status, _, text = ask(free, "/api/history?vm=vm-1")
    assert status == 200
    found = json.loads(text)
    (order,) = found["orders"]
    assert (order["task"], order["status"], order["host"]) == (
        "start vm", "success", free.cluster.hosts[0],
    )  # fmt: skip
    assert [event["event"] for event in order["events"]][:2] == ["accepted", "begun"]
    # The page has the sentence of `fastlib log`, with times that the browser writes.
    texts = [part for part in order["sentence"] if isinstance(part, str)]
    times = [part for part in order["sentence"] if not isinstance(part, str)]
    assert "".join(texts).startswith("'start vm' of vm-1 (2 domains) on demo-a succeeded at  (")
    assert " succeeded at  (" in "".join(texts)
    assert times == [pytest.approx(order["events"][-1]["time"], abs=60)]
    assert (found["asked"], found["missing"]) == (3, [])


@pytest.mark.parametrize("query", ["", "?vm=", f"?vm={'x' * 300}"])
def test_history_without_a_name_is_refused(free, query):
    status, _, text = ask(free, f"/api/history{query}")
    assert status == 400
    assert "expected the name of a VM" in text


@pytest.mark.parametrize("path", [*PATHS, "/missing", "/static/missing", "/static/../access.py"])
def test_every_answer_has_the_headers_of_safety(free, path):
    status, headers, _ = ask(free, path)
    assert status == (404 if "missing" in path or ".." in path else 200)
    for name, value in module.HEADERS.items():
        assert headers[name] == value
    assert "server" not in headers
    policy = headers["content-security-policy"]
    assert "'unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", PATHS)
def test_routes_refuse_other_methods(free, method, path):
    assert ask(free, path, method=method)[0] == 405


def test_static_files_name_no_other_host():
    folder = module.files("fastlib.dashboard") / "static"
    for file in folder.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("// ", ""), file.name
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, file.name


@pytest.mark.parametrize("path", PATHS)
def test_other_names_are_refused(free, path):
    status, _, text = ask(free, path, Host="evil.example")
    assert status == 421
    assert "--name" in text


def test_pages_of_other_sites_are_refused(free):
    assert ask(free, "/api/history?vm=vm-1", sec_fetch_site="cross-site")[0] == 403
    assert ask(free, "/api/state", sec_fetch_site="same-origin")[0] == 200
    assert ask(free, "/", sec_fetch_site="cross-site", sec_fetch_mode="navigate")[0] == 200


@pytest.mark.parametrize("name", ["\0", "\x1b[31m", "a/b+#", "\udcff", "é" * 200, "no", "<b>"])
def test_history_of_an_odd_name_is_empty(free, name):
    status, _, text = ask(free, f"/api/history?vm={quote(name, errors='surrogateescape')}")
    assert status == 200
    assert json.loads(text)["orders"] == []


def test_dashboard_ends_with_an_error_if_its_client_is_closed():
    with DashboardCluster(SETTINGS) as cluster:

        async def close():
            await cluster.dashboard._client.close()
            with pytest.raises(ClientError, match="the client was closed"):
                await cluster.serving

        cluster.run(close())


def test_too_many_readers_are_refused(free, monkeypatch):
    monkeypatch.setattr(module, "MAX_READERS", 0)
    assert ask(free, "/api/events")[0] == 503


def test_too_many_histories_are_refused(free, monkeypatch):
    monkeypatch.setattr(module, "MAX_HISTORIES", 0)
    assert ask(free, "/api/history?vm=vm-1")[0] == 503


# --- the token


@pytest.mark.parametrize("path", PATHS[1:])
def test_server_refuses_readers_without_the_token(locked, path):
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": "fastlib-dashboard=1.a"}):
        status, _, text = ask(locked, path, **headers)
        assert status == 401
        assert list(json.loads(text)) == ["error"]
    assert ask(locked, path + f"{'&' if '?' in path else '?'}token={quote(TOKEN)}")[0] == 401


def test_page_leads_to_the_form(locked):
    status, headers, _ = ask(locked, "/")
    assert (status, headers["location"]) == (303, "/login")
    assert 'type="password"' in ask(locked, "/login")[2]


def test_bearer_token_opens_all_paths(locked):
    for path in PATHS:
        assert ask(locked, path, Authorization=f"Bearer {TOKEN}")[0] == 200


def log_in(cluster, token, **headers):
    body = urlencode({"token": token})
    return ask(cluster, "/login", method="POST", body=body, **headers)


def test_login_sets_a_cookie_that_scripts_and_other_sites_cannot_use(locked):
    status, headers, _ = log_in(locked, TOKEN)
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    value = cookie.partition(";")[0]
    assert ask(locked, "/api/state", Cookie=value)[0] == 200


def test_login_from_another_site_is_refused(locked):
    own = f"http://127.0.0.1:{locked.port}"
    assert log_in(locked, TOKEN, Origin="http://evil.example")[0] == 403
    assert log_in(locked, TOKEN, Origin="null", sec_fetch_site="cross-site")[0] == 403
    assert log_in(locked, TOKEN, Origin=own)[0] == 303


def test_wrong_tokens_are_refused_and_then_throttled(monkeypatch):
    with DashboardCluster(SETTINGS, token=TOKEN) as cluster:
        status, headers, text = log_in(cluster, "wrong")
        assert (status, headers.get("set-cookie")) == (403, None)
        assert "That is not the token." in text
        for _ in range(9):
            assert log_in(cluster, "wrong")[0] == 403
        status, _, text = log_in(cluster, TOKEN)
        assert (status, "Too many wrong tokens" in text) == (429, True)
        assert 'role="alert"' not in ask(cluster, "/login")[2]


def test_large_form_is_refused(locked):
    assert log_in(locked, "x" * 5000)[0] == 413


# --- readers that do not read, and the end


def grow(cluster, changes, text):
    """Change the state many times, each time by a long result."""

    async def change():
        result = Result(vm_name="vm", status="error", details=text)
        results = ResultContainer(result="vm stopped", results=[result])
        for _ in range(changes):
            cluster.dashboard.state.add(
                ObservedMessage(
                    host=cluster.cluster.hosts[0],
                    topic="",
                    time=datetime.now().astimezone(),
                    payload=b"",
                    message=results,
                ),
                0.0,
            )
            await asyncio.sleep(0.002)  # long enough for readers to get each change

    cluster.run(change())


def test_slow_reader_skips_states_and_gets_the_newest(free, monkeypatch):
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.001)
    changes = 120
    with socket.create_connection(("127.0.0.1", free.port), PATIENCE) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(b"GET /api/events HTTP/1.0\r\nHost: localhost\r\n\r\n")
        slow.recv(100)
        grow(free, 200, "x" * 2000)  # fills the buffers; from now on a message has 400 kB
        grow(free, changes, "y" * 2000)
        newest = free.dashboard.state.results[0].number
        assert free.dashboard.readers == 1
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        with slow.makefile("rb") as lines:
            messages = 0
            for line in lines:
                messages += b"yyy" in line
                if f'"number":{newest},'.encode() in line:
                    break
    assert messages < changes / 3, "a queue has kept what the reader did not read"


def rest_of(connection):
    """Return what comes until the server ends the connection."""
    data = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(1 << 20):
            data += part
    return data


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", False),
        (b"GET / HTTP/1.1\r\nHost: local", False),
        (b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\ntoken=", False),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HT", True),
    ],
    ids=["silent", "half a head", "half a form", "half a second request"],
)
def test_connection_without_a_whole_request_is_ended(free, monkeypatch, sent, answered):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", free.port), PATIENCE) as one:
        one.sendall(sent)
        assert rest_of(one).startswith(b"HTTP/1.1 200") is answered


def test_slow_request_is_ended_although_bytes_come(free, monkeypatch):
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", free.port), PATIENCE) as one:
        one.settimeout(0.02)
        with pytest.raises(ConnectionError):  # noqa: PT012 - each call can be the one that fails
            for _ in range(100_000):
                one.sendall(b"G")
                with suppress(TimeoutError):
                    if not one.recv(1):
                        raise ConnectionResetError


def test_silent_connections_leave_room_for_requests(free, monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 5)
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", free.port), PATIENCE))
            for _ in range(12)
        ]
        assert ask(free, "/api/state")[0] == 200
        assert rest_of(silent[0]) == b"", "the oldest one is ended first"


def test_connections_are_bounded_if_all_have_requests(free, monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    with ExitStack() as stack:
        for _ in range(3):
            reader = socket.create_connection(("127.0.0.1", free.port), PATIENCE)
            stack.enter_context(reader).sendall(
                b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
            )
            assert reader.recv(100).startswith(b"HTTP/1.1 200")
        one_more = socket.create_connection(("127.0.0.1", free.port), PATIENCE)
        assert rest_of(stack.enter_context(one_more)) == b""


def test_reader_that_takes_nothing_is_ended(free, monkeypatch):
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", free.port), PATIENCE) as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.sendall(b"GET /api/events HTTP/1.0\r\nHost: localhost\r\n\r\n")
        begin = b""
        while b"data: " not in begin:  # it is a reader now
            begin += stalled.recv(100)
        for _ in range(200):
            if not free.dashboard.readers:
                break
            grow(free, 50, "z" * 2000)
        assert not free.dashboard.readers


def test_server_ends_although_readers_are_connected():
    with DashboardCluster(SETTINGS) as cluster:
        reader = socket.create_connection(("127.0.0.1", cluster.port), PATIENCE)
        reader.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reader.recv(100)
    with reader:
        while reader.recv(1 << 20):  # raises a timeout if the server does not end it
            pass


def test_silent_daemon_is_reported_and_queried_again(free, monkeypatch):
    monkeypatch.setattr(queries, "ANSWER_SECONDS", 0.2)
    with free.impersonating("silent", "vm", answers=False):

        def told(state):
            return any(host.get("silent") for host in state["hosts"])

        found = state_of(free, told)
        (host,) = (host for host in found["hosts"] if host["name"] == "silent")
        assert "no result within 0.2 s" in host["silent"]
    state_of(free, lambda state: all(host["name"] != "silent" for host in state["hosts"]))
