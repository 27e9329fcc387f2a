"""`fastlib send` with a real broker and a stand-in for the daemon."""

import argparse
import json
import re
import sys
from functools import partial

import pytest

from fastlib import Quit, Start, Stop, TaskContainer
from fastlib.cli.commands.send import _EPILOG
from fastlib.cli.connection import exit_status_of
from fastlib.extras import install_command
from fastlib.transport.errors import Undelivered, UndeliveredError
from tests.support.mosquitto import Certificates, Mosquitto, free_port
from tests.support.shell import (
    STOP,
    Daemon,
    address,
    run,
    run_process,
)
from tests.support.waiting import try_with_more_time

BROKEN = "task: stop vm\nlist:\n  - vm-nam: vm1\n"


# --- what is sent ---------------------------------------------------------------------------------


def test_send_prints_new_id_of_container(file, env, daemon):
    done = run("send", "hostA", "--no-wait", file("task: quit\n"), env=env)
    assert (done.returncode, done.stderr) == (0, "")
    received = daemon.wait()
    assert received.tasks == (Quit(),)
    assert done.stdout == f"{received.id}\n" != "\n"


def test_send_sends_each_document(file, env, daemon):
    text = f"{STOP}---\ntask: start vm\nvm-configurations: [{{vm-name: vm3}}]\nid: start-1\n---\n"
    done = run("send", "hostA", "--no-wait", "-", "--format", "json", env=env, stdin=text)
    assert (done.returncode, done.stderr) == (0, "")
    daemon.wait(2)
    assert daemon.received == [
        TaskContainer(tasks=[Stop(vm_name="vm1"), Stop(vm_name="vm2")], id="stop-1"),
        TaskContainer(tasks=[Start(vm_name="vm3")], id="start-1"),
    ]
    sent = [json.loads(line) for line in done.stdout.splitlines()]
    assert sent == [{"host": "hostA", "id": "stop-1"}, {"host": "hostA", "id": "start-1"}]


@pytest.mark.parametrize("more", ["", "---\ntask: quit\n"])
def test_send_reports_errors_like_validate_and_sends_nothing(more, file, env, daemon):
    path = file(BROKEN + more)
    done = run("send", "hostA", "--no-wait", path, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == run("validate", path, env=env).stdout
    assert f"{path}:3:5: error: list[0]: needs vm-name" in done.stderr
    done = run(
        "send", "hostA", "--no-wait", file("task: quit\nid: last\n"), env=env
    )  # no other was before it
    assert daemon.wait().id == "last"


def test_send_sends_container_with_warning(file, env, daemon):
    path = file("task: quit\nidd: x\n")
    done = run("send", "hostA", "--no-wait", path, env=env)
    assert done.returncode == 0
    assert done.stderr.startswith(f"{path}:2:1: warning: idd: unknown key")
    assert daemon.wait().tasks == (Quit(),)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("task: init\nhostname: a\n", "1:7: error: task: expected one of cancel task,"),
        (
            "task: quit\n---\nresult: quit\nlist: []\n",
            "3:1: error: result: this is a result, 'quit', ",
        ),
        (
            "result: vm started\nlist: [{vm-name: a, status: success}]\n",
            "1:1: error: result: this is a result, 'vm started', which a daemon sends; expected a "
            "task. 'fastlib validate' checks a result, and 'fastlib convert' prints it\n",
        ),
    ],
)
def test_send_refuses_messages_other_than_tasks(text, place, file, env):
    path = file(text)
    assert run("validate", path, env=env).returncode == 0
    done = run("send", "hostA", "--no-wait", path, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{path}:{place}")


def test_send_refuses_duplicate_id_before_sending(file, env):
    path = file(f"{STOP}---\n{STOP}")
    done = run("send", "hostA", "--no-wait", path, env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"{path}: error: id: two containers have the id 'stop-1'; their results could not be "
        "distinguished\n"
    )


def test_send_sends_several_files_in_order(file, env, daemon):
    first, last = file(STOP, "1.yaml"), file("task: quit\nid: last\n", "3.yaml")
    second = "task: start vm\nvm-configurations: [{vm-name: vm3}]\nid: start-1\n"
    done = run("send", "hostA", first, "-", last, "--no-wait", env=env, stdin=second)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "stop-1\nstart-1\nlast\n")
    daemon.wait(3)
    assert [container.id for container in daemon.received] == ["stop-1", "start-1", "last"]


@pytest.mark.parametrize(
    ("second", "status", "error"),
    [
        (BROKEN, 1, "{path}:3:5: warning: list[0].vm-nam: unknown key"),
        (STOP, 1, "{path}: error: id: two containers have the id 'stop-1'"),
        (None, 2, "fastlib send: error: {path}: No such file or directory"),
    ],
)
def test_problem_of_one_file_keeps_all_from_being_sent(second, status, error, file, env, daemon):
    first = file(STOP, "1.yaml")
    path = file(second, "2.yaml") if second else "/missing.yaml"
    done = run("send", "hostA", first, path, env=env)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(error.format(path=path))
    done = run("send", "hostA", file("task: quit\nid: last\n"), env=env)  # no other was before it
    assert daemon.wait().id == "last"


def test_file_in_the_place_of_the_host_is_named(env, file, monkeypatch):
    folder, _, name = str(file(STOP)).rpartition("/")
    monkeypatch.chdir(folder)
    done = run("send", name, "hostA", env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"error: {name} is a file; the host comes before the files\n")
    done = run("send", name, name, "--no-wait", env=env)  # the host is missing
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"error: {name} is a file; the host comes before the files\n")


def test_standard_input_is_read_once(env):
    done = run("send", "hostA", "-", "-", env=env, stdin=STOP)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("error: standard input, -, can be read only once\n")


def test_unreadable_file_is_reported(env, tmp_path):
    done = run("send", "hostA", "--no-wait", tmp_path, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"fastlib send: error: {tmp_path}: Is a directory\n"


@pytest.mark.parametrize("line", re.findall(r"^  .*(fastlib send .*)$", _EPILOG, re.MULTILINE))
def test_example_in_help_succeeds(line, file, env, mosquitto):
    path = file(STOP)
    with Daemon(mosquitto, "node01"):
        other = file("task: quit\n", "other.yaml")
        files = {"task.yaml": path, "start.yaml": path, "migrate.yaml": other}
        arguments = [files.get(word, word) for word in line.split()[1:]]
        done = run(*arguments, env=env, stdin=STOP)
    assert (done.returncode, done.stderr) == (0, "")


# --- the broker -----------------------------------------------------------------------------------


def test_missing_broker_is_reported(file, env):
    port = free_port()
    arguments = ("send", "hostA", "--no-wait", file(STOP), "--broker", f"127.0.0.1:{port}")

    def send(timeout):
        done = run(*arguments, "--connect-timeout", timeout, env=env)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines()[-1] == (
            f"fastlib send: error: no broker at 127.0.0.1:{port} within {timeout:g} s: Connection "
            "refused; start one there, or name another one by --broker or FASTLIB_BROKER"
        )

    try_with_more_time(send)


def test_url_that_does_not_fit_the_port_has_a_remedy_in_words_of_the_command(file, tmp_path):
    certificates = Certificates(tmp_path / "certificates")
    path = file(STOP)

    def send(url, words, timeout):
        done = run("send", "hostA", path, "--broker", url, "--connect-timeout", timeout)
        assert (done.returncode, done.stdout) == (2, "")
        last = done.stderr.splitlines(keepends=True)[-1]
        place = url.partition("://")[2]
        assert last.startswith(f"fastlib send: error: the broker at {place} cannot be used: ")
        assert last.endswith(words)

    with (
        Mosquitto(tmp_path / "tls", certificates=certificates) as tls,
        Mosquitto(tmp_path / "plain") as plain,
    ):
        for url, words in (
            (f"mqtt://127.0.0.1:{tls.port}",
             "its port may expect TLS: use --broker mqtts://HOST:PORT\n"),
            (f"mqtts://127.0.0.1:{plain.port}",
             "its port may be without TLS: use mqtt:// instead of mqtts:// in --broker, and leave "
             "out --ca-file and --certificate\n"),
        ):  # fmt: skip
            try_with_more_time(partial(send, url, words), (1.0, 10.0, 60.0))


def test_unconfirmed_message_times_out(capsys):
    def work():
        raise UndeliveredError([Undelivered("fast/migfra/hostA/task", 2, 10, True)], "closed")

    parser = argparse.ArgumentParser("fastlib send")
    assert exit_status_of(argparse.Namespace(parser=parser), work) == 3
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (
        "",
        "fastlib send: error: 1 messages not confirmed (closed), topics: fast/migfra/hostA/task\n",
    )


def test_password_from_file_environment_and_url(file, tmp_path):
    path, secret = file(STOP), file("s3cret\nanything", "password")
    with Mosquitto(tmp_path / "broker", password=("scheduler", "s3cret")) as broker:
        env, at = address(broker), f"127.0.0.1:{broker.port}"
        user = ("--username", "scheduler")
        for mqtt in ("3.1.1", "5"):
            done = run("send", "hostA", "--no-wait", path, "--mqtt", mqtt, env=env)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.count("\n") == 1
            assert f"at {at}: the broker refuses the connection: " in done.stderr
            assert "; give --username and --password-file\n" in done.stderr
            done = run("send", "hostA", "--no-wait", path, "--mqtt", mqtt, *user,
                       env=env | {"FASTLIB_PASSWORD": "other"})  # fmt: skip
            assert done.returncode == 2
            assert done.stderr.endswith("; check the name and the password of the user\n")
            done = run("send", "hostA", "--no-wait", path, "--mqtt", mqtt, *user,
                       "--password-file", secret, env=env)  # fmt: skip
            assert (done.returncode, done.stdout, done.stderr) == (0, "stop-1\n", "")
        for given in (
            env | {"FASTLIB_PASSWORD": "s3cret"},
            {"FASTLIB_BROKER": f"mqtt://scheduler:s3cret@{at}"},
        ):
            done = run("send", "hostA", "--no-wait", path, *user, env=given)
            assert (done.returncode, done.stdout, done.stderr) == (0, "stop-1\n", "")


@pytest.mark.parametrize(
    ("arguments", "env", "words"),
    [
        (
            ["--broker", "mqtt://me:s3cret@host"],
            {},
            "a password does not belong on a command line, where others can see it; use "
            "--password-file or the environment's FASTLIB_PASSWORD",
        ),
        ([], {"FASTLIB_PASSWORD": "x"}, "no user name: also give --username"),
        (["--password-file", "x"], {}, "a password belongs to a `username`"),
        (["--broker", "http://x"], {}, "must begin with mqtt://"),
        (["--key", "x"], {}, "belong to a `certificate`, which is missing"),
        (["--ca-file", "/missing"], {}, "No such file or directory"),
        (["--username", "a", "--password-file", "/missing"], {}, "No such file or directory"),
    ],
)
def test_invalid_connection_options_are_one_error_line(arguments, env, words, file):
    done = run("send", "hostA", "--no-wait", file(STOP), *arguments, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fastlib send: error: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert "s3cret" not in done.stderr


def test_tls_with_client_certificate(file, tmp_path):
    certificates = Certificates(tmp_path / "certificates")
    path, own = file(STOP), certificates.client
    with Mosquitto(
        tmp_path / "broker", certificates=certificates, client_certificates=True
    ) as broker:
        env = {"FASTLIB_BROKER": f"mqtts://127.0.0.1:{broker.port}"}
        done = run("send", "hostA", "--no-wait", path, env=env)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert (
            "the certificate of the broker is refused: self-signed certificate in certificate "
            "chain; --ca-file names" in done.stderr
        )
        assert done.stderr.endswith("; --ca-file names the authorities that sign it\n")
        for given in (env, address(broker)):  # a certificate implies TLS
            done = run("send", "hostA", "--no-wait", path, "--ca-file", certificates.ca,
                       "--certificate", own, "--key", certificates.key(own), env=given)  # fmt: skip
            assert (done.returncode, done.stdout, done.stderr) == (0, "stop-1\n", "")


def test_missing_paho_is_reported_with_install_command(file, env):
    code = "import sys; sys.modules['paho'] = None; from fastlib.cli import main; sys.exit(main())"
    done = run_process(
        "send", "hostA", "--no-wait", file(STOP), env=env, program=(sys.executable, "-c", code)
    )
    assert done.returncode == 2
    assert done.stderr == (
        "fastlib send: error: MQTT needs paho-mqtt, which is not installed: "
        f"{install_command('mqtt')}\n"
    )
