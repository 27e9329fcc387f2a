"""`fastlib dashboard`: its address, its token, its end, and wrong usage."""

import json
import re
import signal
import ssl
import urllib.request

import pytest

from fastlib.cli.commands.dashboard import DEFAULT_PORT, _address
from fastlib.extras import install_command
from tests.support.modules import missing_package
from tests.support.mosquitto import PATIENCE, Certificates, Mosquitto, free_port
from tests.support.shell import Daemon, Running, address, run

ADDRESS = r"dashboard at (https?://\S+:(\d+)/)\n"


def get(url, **options):
    with urllib.request.urlopen(url, timeout=PATIENCE, **options) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_page_is_served_until_a_signal(number, env, daemon):
    daemon.presence()
    with Running("dashboard", "--listen", "127.0.0.1:0", "--no-queries", env=env) as served:
        url = served.until(ADDRESS)[1]
        assert "<title>fastlib dashboard</title>" in get(url)
        line = urllib.request.urlopen(f"{url}api/events", timeout=PATIENCE)
        with line:
            while b'"hostA"' not in line.readline():
                pass  # the presence comes with the first or the second state
            served.process.send_signal(number)
            assert served.wait() == 0
    assert served.text("stderr") == ""


def test_lost_broker_is_reported_and_hosts_stay(tmp_path):
    with Mosquitto(tmp_path / "broker") as broker, Daemon(broker) as daemon:
        daemon.presence()
        arguments = ("dashboard", "--listen", "127.0.0.1:0", "--no-queries")
        with Running(*arguments, env=address(broker)) as served:
            url = served.until(ADDRESS)[1]
            with urllib.request.urlopen(f"{url}api/events", timeout=PATIENCE) as events:
                state = states(events)
                next(found for found in state if found.get("hosts"))
                broker.stop()
                lost = next(found for found in map(broker_of, state) if not found["connected"])
                assert lost["since"] > 0
                assert [host["name"] for host in json.loads(get(f"{url}api/state"))["hosts"]] == [
                    "hostA"
                ]
                broker.start()
                assert next(found for found in map(broker_of, state) if found["connected"] is True)
            served.interrupt()
            assert served.wait() == 0


def broker_of(state):
    """Return the broker's part of a state; it is absent if it has not changed."""
    return state.get("broker", {"connected": "unchanged"})


def states(events):
    """Yield the states and changes of a stream of events."""
    for line in events:
        if line.startswith(b"data: "):
            yield json.loads(line[6:])


def test_token_file_is_made_and_required_on_all_addresses(env, daemon, tmp_path):
    file = tmp_path / "token"
    arguments = ("dashboard", "--listen", "0.0.0.0:0", "--token-file", file)
    with Running(*arguments, env=env) as served:
        port = served.until(ADDRESS)[2]
        token = file.read_text().strip()
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/state")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(request)
        request.add_header("Authorization", f"Bearer {token}")
        assert json.loads(get(request))["full"]
        served.interrupt()
        assert served.wait() == 0
    assert token not in served.text("stdout") + served.text("stderr")


def test_generated_token_is_printed_on_a_terminal_only(env, daemon):
    arguments = ("dashboard", "--listen", "0.0.0.0:0")
    with Running(*arguments, env=env, terminal=("stdout",)) as served:
        served.until(r"the token to log in: [\w-]{43}\n", "terminal")
        served.interrupt()
        assert served.wait() == 0
    done = run(*arguments, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert "a page on 0.0.0.0 needs a token: give --token-file FILE" in done.stderr


def test_page_is_served_by_https(env, daemon, tmp_path):
    made = Certificates(tmp_path / "certificates")
    files = ("--server-certificate", made.broker, "--server-key", made.key(made.broker))
    with Running("dashboard", "--listen", "127.0.0.1:0", *files, env=env) as served:
        url = served.until(ADDRESS)[1]
        assert url.startswith("https://")
        trusted = ssl.create_default_context(cafile=made.ca)
        assert "fastlib dashboard" in get(url, context=trusted)
        served.interrupt()
        assert served.wait() == 0


def test_unusable_address_and_certificate_are_errors(env, mosquitto, tmp_path):
    port = mosquitto.port  # something listens there
    done = run("dashboard", "--listen", f"127.0.0.1:{port}", env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(
        rf"cannot listen on 127.0.0.1 port {port}: .* --listen ADDRESS:PORT", done.stderr
    )
    done = run("dashboard", "--listen", "192.0.2.1", "--token-file", tmp_path / "t", env=env)
    assert (done.returncode, "cannot listen on 192.0.2.1" in done.stderr) == (2, True)
    bad = tmp_path / "bad.pem"
    for content in (None, "no certificate"):
        if content is not None:
            bad.write_text(content)
        done = run("dashboard", "--listen", "127.0.0.1:0", "--server-certificate", bad, env=env)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"the certificate of the server, {bad}, cannot be used" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        *(
            (["--listen", text], "expected ADDRESS or ADDRESS:PORT")
            for text in ("", ":", "127.0.0.1:", "127.0.0.1:x", "h:65536", "[::1", "[::1]80", ":80")
        ),
        (["--server-key", "k"], "--server-key belongs to --server-certificate"),
    ],
)
def test_wrong_usage_is_one_error_line(arguments, words, env):
    done = run("dashboard", *arguments, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.5", ("10.0.0.5", DEFAULT_PORT)),
        ("10.0.0.5:0", ("10.0.0.5", 0)),
        ("::1", ("::1", DEFAULT_PORT)),
        ("[::1]", ("::1", DEFAULT_PORT)),
        ("[::1]:80", ("::1", 80)),
        ("cluster.example:65535", ("cluster.example", 65535)),
    ],
)
def test_address_to_listen_on(text, address):
    assert _address(text) == address


def test_missing_broker_is_an_error():
    done = run("dashboard", "--broker", f"127.0.0.1:{free_port()}", "--connect-timeout", "0.2")
    assert (done.returncode, done.stdout) == (2, "")
    assert "start one there, or name another one by --broker" in done.stderr


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_missing_package_is_an_error_with_the_install_command(package, env):
    with missing_package(package, "fastlib.cli.commands.dashboard", "fastlib.dashboard"):
        done = run("dashboard", "--listen", "127.0.0.1:0", env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"the dashboard needs {package}, which is not installed" in done.stderr
    assert install_command("web") in done.stderr
