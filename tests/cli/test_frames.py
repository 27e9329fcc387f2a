"""The frames of the live views on terminals of three sizes, compared with stored ones.

`pytest tests/cli/test_frames.py --write-pictures` stores the frames again.
"""

import re
import sys

import pytest

from tests.support.mosquitto import PATIENCE
from tests.support.screen import SIZES, Screen, check_frame
from tests.support.shell import PATIENT_PROGRAM, Daemon, address, silence

ID = "k3v7qmhx2c5zt4n6bwd7yrgj5a"
OTHER_ID = "p5s2xw6dnc3jr7tgvbq4hzmk2e"
ERROR = (
    "no route to host 10.11.12.13 while connecting to the libvirt of compute-rack7-04; "
    "the VM still runs on compute-rack7-03"
)
HOSTS = tuple(f"compute-rack7-{number:02}" for number in range(1, 101))
TITLES = {size: f"{size[0]}x{size[1]}" for size in SIZES}


@pytest.fixture(
    params=[SIZES[0], *(pytest.param(size, marks=pytest.mark.load) for size in SIZES[1:])],
    ids=TITLES.get,
)
def size(request):
    return request.param


@pytest.fixture
def write(request):
    return request.config.getoption("--write-pictures")


@pytest.fixture
def broker(mosquitto):
    """The broker, and a daemon to publish in the names of all hosts."""
    with Daemon(mosquitto, HOSTS[2]) as daemon:
        daemon.answer = silence
        yield daemon
        for host in HOSTS:
            daemon.communicator.send(b"", f"fast/migfra/{host}/status", retain=True)


def publish(daemon, host, kind, text, *, retain=False):
    topic = f"fast/migfra/{host}/{kind}"
    daemon.communicator.send(text.encode(), topic, retain=retain).wait(PATIENCE)


def show_presence(daemon, hosts):
    for host in hosts:
        text = b"{status: online, hypervisor: qemu, version: '1.0'}"
        sent = daemon.communicator.send(text, f"fast/migfra/{host}/status", retain=True)
    sent.wait(PATIENCE)  # the broker handles them in order


def show_work(daemon, host):
    """Publish a running migration, a queued one, and two results."""
    names = ", ".join(f"{{vm-name: customer-web-{number:02}}}" for number in range(1, 7))
    publish(daemon, host, "task", f"{{task: stop vm, list: [{names}], id: {OTHER_ID}}}")
    moving = f"id: {ID}, title: migrate vm, vm-name: customer-db-01"
    publish(daemon, host, "progress", f"{{{moving}, phase: memory, percent: 42}}")
    publish(
        daemon,
        host,
        "result",
        f"{{result: vm migrated, id: {OTHER_ID[::-1]}, vm-name: customer-web-09, "
        f'status: error, details: "{ERROR}"}}',
    )
    good = "{vm-name: customer-web-07, status: success}"
    publish(daemon, host, "result", f"{{result: vm started, id: s1, list: [{good}]}}")


def test_watch(size, write, mosquitto, broker):
    show_presence(broker, HOSTS[:4])
    with Screen("watch", env=address(mosquitto), size=size) as screen:
        screen.until_frame(f"{HOSTS[3]} +online")
        show_work(broker, HOSTS[2])
        screen.until_frame("customer-web-07: success")
        screen.interrupt()
        assert screen.wait() == 0
        frame = screen.frame()
    for text in (HOSTS[2], ID, OTHER_ID, "customer-db-01"):
        assert text in frame
    assert re.search("memory 42 % +[━╸╺]{6,}", frame)
    words = [word for word in ERROR.split() if word not in frame]
    assert words == [], "no word of an error is cut"
    check_frame(f"watch-{TITLES[size]}", frame, write=write)


def test_watch_of_100_hosts_shows_active_hosts(size, write, mosquitto, broker):
    show_presence(broker, HOSTS)
    with Screen("watch", env=address(mosquitto), size=size) as screen:
        screen.until_frame(r"hosts \(100\)", r"\.\.\. \d+ more")
        assert HOSTS[88] not in screen.frame()
        show_work(broker, HOSTS[88])
        publish(broker, HOSTS[70], "status", "status: offline", retain=True)
        screen.until_frame("customer-web-07: success", f"{HOSTS[70]} +offline")
        screen.interrupt()
        assert screen.wait() == 0
        frame = screen.frame()
    hosts = frame.partition("running and queued")[0]
    assert HOSTS[88] in hosts
    assert HOSTS[70] in hosts
    check_frame(f"watch-100-hosts-{TITLES[size]}", frame, write=write)


def test_bar_of_send(size, write, mosquitto, broker, tmp_path):
    file = tmp_path / "task.yaml"
    file.write_text(
        f"{{task: migrate vm, id: {ID}, vm-name: customer-db-01, destination: {HOSTS[3]}}}"
    )
    facts = "phase: memory, percent: 42, transferred: 3650722201, total: 8589934592, expected: 19"
    command = ("send", HOSTS[2], file)
    env = address(mosquitto)
    with Screen(*command, env=env, size=size, program=PATIENT_PROGRAM) as screen:
        broker.wait()
        screen.until_frame(r"sent +0:00:\d\d")
        report = f"{{id: {ID}, title: migrate vm, vm-name: customer-db-01, {facts}}}"
        publish(broker, HOSTS[2], "progress", report)
        frame = screen.until_frame(r"42 %.*\n\(id \w+\)$")
        result = f"{{result: vm migrated, id: {ID}, vm-name: customer-db-01, status: success}}"
        publish(broker, HOSTS[2], "result", result)
        assert screen.wait() == 0
    assert re.search("[━╸╺]{6,} +memory 42 %", frame)
    assert f"(id {ID})" in frame
    check_frame(f"send-{TITLES[size]}", frame, write=write)


WITHOUT_PAUSES = (
    "import sys; from fastlib.cli.commands import demo; demo.WATCHED_PAUSE = 0.0; "
    "from fastlib.cli import main; sys.exit(main())"
)
DEMO = (sys.executable, "-c", WITHOUT_PAUSES)
DEMO_COLUMNS = "host +daemon +memory +VMs"


def steady(frame):
    """Return a frame of the demo without the figures of migrations, and with results in order."""
    frame = re.sub(r"(migrate) +\d+ %.*", r"\1 ...", frame)
    lines = re.sub("[━╸╺]+", lambda bar: "=" * len(bar[0]), frame).splitlines()
    places = [index for index, line in enumerate(lines) if line.startswith("<- ")]
    for index, line in zip(places, sorted(lines[index] for index in places), strict=True):
        lines[index] = line
    return "\n".join(lines) + "\n"


def test_demo(size, write):
    with Screen("demo", "--speed", "4", env={}, size=size, program=DEMO) as screen:
        frame = screen.until_frame(
            DEMO_COLUMNS,
            r"vm-\d from demo-a to demo-b +\w+ \d+ %",
            r"-> demo-a  migrate vm vm-3 to demo-b$",
        )
        screen.interrupt()
        screen.wait()
    for host in ("demo-a", "demo-b", "demo-c"):
        assert re.search(rf"^{host} +online +[━╸╺]{{6,}} +\d", frame, re.MULTILINE)
    assert re.search(r"to demo-b +\w+ \d+ % +[━╸╺]{6,}", frame)
    assert "list:" not in frame, "events are words, not YAML"
    check_frame(f"demo-{TITLES[size]}", steady(frame), write=write)


def test_frames_that_come_at_once_are_looked_at_one_by_one():
    frames = "one\\n\\r\\033[2K\\033[1A\\033[2Ktwo\\n\\r\\033[2K\\033[1A\\033[2Kthree\\n"
    code = f"import sys; sys.stdout.write('{frames}')"
    with Screen(env={}, size=SIZES[0], program=(sys.executable, "-c", code)) as screen:
        assert screen.wait() == 0
        for text in ("one", "two", "three"):
            assert screen.until_frame(text) == f"{text}\n"


def test_demo_of_many_hosts_shows_active_hosts():
    arguments = ("demo", "--hosts", "24", "--vms", "48", "--speed", "2")
    with Screen(*arguments, env={}, size=SIZES[0], program=DEMO) as screen:
        frame = screen.until_frame(
            DEMO_COLUMNS,
            r"\.\.\. \d+ more",
            r"vm-\d+ from demo-\w to demo-\w .*\d %",
            "\n(->|<-) .*$",
        )
        screen.interrupt()
        screen.wait()
    source, destination = re.search(r"from (demo-\w) to (demo-\w)", frame).groups()
    for host in (source, destination):
        assert re.search(f"^{host} +online", frame, re.MULTILINE)
