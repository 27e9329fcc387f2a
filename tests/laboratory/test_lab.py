"""The laboratory itself: up, down, faults, its network, and migrations by virsh."""

import contextlib
import functools
import itertools
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fastlib.client import MigfraClient
from tests.support.lab import Lab, LabError, command, process_table
from tests.support.lab.fleet import COMPARE_PATIENCE
from tests.support.lab.layout import Layout
from tests.support.lab.priority import prefer
from tests.support.waiting import WAIT_LIMIT, wait_until

pytestmark = pytest.mark.laboratory

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "tests" / "support" / "lab"
PROGRAM = LAB / "lab"


def run_program(capsys, root, name, *arguments, status=0, input=None):
    """Run a command of the program `lab`; return all that it prints.

    Commands that start processes or use standard input run in a separate process.
    """
    words = ["--root", str(root), "--name", name, *map(str, arguments)]
    if arguments[0] in ("up", "exec", "shell"):
        done = subprocess.run(
            [sys.executable, PROGRAM, *words],
            capture_output=True,
            text=True,
            timeout=4 * WAIT_LIMIT,
            input=input,
            check=False,
        )
        ended, output, errors = done.returncode, done.stdout, done.stderr
    else:
        ended = command.main(words)
        output, errors = capsys.readouterr()
    assert "Traceback" not in errors, errors
    assert ended == status, output + errors
    return output + errors


@pytest.fixture
def program(tmp_path, capsys):
    """The program with a laboratory of the test's own, which is brought down afterwards."""

    def run(*arguments, name="main", **options):
        return run_program(capsys, tmp_path, name, *arguments, **options)

    yield run
    run("down")


@pytest.fixture
def fleet_program(lab, capsys):
    """The program with the laboratory of all tests."""
    return functools.partial(run_program, capsys, lab.layout.root, lab.name)


def processes_of(root):
    """All that run for laboratories below a folder, and all that run in their namespaces."""
    inside = [p for p in process_table.all_processes() if any(str(root) in word for word in p.argv)]
    return [p for p in inside if p.pid != os.getpid()]


def interfaces():
    """Those of the machine itself."""
    return {name for _, name in socket.if_nameindex()}


def namespaces_of(pid):
    """Return the users of a namespace: processes in it, and mounts with its name."""
    return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("net", "mnt", "uts", "pid")}


def namespaces_in_use(last_start=None):
    """Return the namespaces of mounts, and of processes that began up to that moment.

    The kernel gives the number of a namespace that has ended to the next one. So processes that
    began later may be in other namespaces with the same numbers.
    """
    mounts = Path("/proc/self/mountinfo").read_text()
    used = set(re.findall(r"\w+:\[\d+\]", mounts))
    for process in process_table.all_processes():
        if last_start is None or process.start_time <= last_start:
            with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
                used |= namespaces_of(process.pid)
    return used


def init_process(root, name="main"):
    return process_table.find_init("tests.support.lab.inside.switch", str(root / name))


# --- up and down ---------------------------------------------------------------------------------


def test_up_and_down_leave_nothing(program, tmp_path):
    before = interfaces()
    program("up", "--hosts", "1")
    lab = Lab.named("main", tmp_path)
    made = namespaces_of(lab.broker.init_process.pid) | namespaces_of(
        lab.host("hostA").init_process.pid
    )
    assert made <= namespaces_in_use()
    assert len(made) == 8
    assert not made & namespaces_of(os.getpid())
    assert interfaces() == before
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    program("define", "hostA", "vm1", "--bios", "--memory", "16")
    program("exec", "hostA", "--", "virsh", "start", "vm1")
    last_start = max(process.start_time for process in process_table.all_processes())
    program("down")
    program("down")
    assert "is not up: lab up" in program("status", status=1)
    assert processes_of(tmp_path) == []
    assert not made & namespaces_in_use(last_start)
    assert interfaces() == before
    assert not (tmp_path / "main").exists()


def test_up_keeps_a_laboratory_that_is_up(lab, fleet_program):
    running = lab.broker.init_process
    assert "hostA, hostB, hostC and the broker are up" in fleet_program("up", "--hosts", "3")
    assert lab.broker.init_process == running
    assert "is up with 3 hosts, not 2: lab down" in fleet_program("up", "--hosts", "2", status=1)


def test_two_laboratories_are_separate(lab, program, tmp_path):
    program("up", "--hosts", "1")
    lab.host("hostA").run(["touch", "/var/lib/mine"])
    program("exec", "hostA", "--", "test", "!", "-e", "/var/lib/mine")
    program("down")
    assert init_process(tmp_path) is None
    lab.host("hostA").run(["rm", "/var/lib/mine"])


def test_up_replaces_processes_that_ended(program, tmp_path):
    program("up", "--hosts", "1")
    Lab.named("main", tmp_path).host("hostA").init_process.kill()
    assert "hostA of the laboratory main is not up" in program("exec", "hostA", "true", status=1)
    assert "has died" in program("status")
    program("up", "--hosts", "1")
    assert "connected; no domains" in program("status")
    init_process(tmp_path).kill()
    assert "is not up" in program("status", status=1)
    program("up", "--hosts", "1")
    program("exec", "hostA", "--", "true")


def test_up_starts_daemons_that_have_died(lab, fleet_program):
    running = lab.broker.init_process
    fleet_program("kill", "hostC", "libvirtd")
    fleet_program("kill", "broker", "mosquitto")
    status = fleet_program("status")
    assert "libvirtd does not run" in status
    assert "mosquitto does not run" in status
    fleet_program("up", "--hosts", "3")
    status = fleet_program("status")
    assert "mosquitto runs" in status
    assert status.count("no domains") == 3
    assert lab.broker.init_process == running


def test_up_succeeds_after_an_interrupted_up(program, tmp_path):
    starting = subprocess.Popen([sys.executable, PROGRAM, "--root", tmp_path, "up"])
    wait_until(lambda: init_process(tmp_path), "the first process")
    starting.kill()
    starting.wait()
    program("up", "--hosts", "1")
    assert "connected; no domains" in program("status")


def test_two_processes_bring_up_one_laboratory(program, tmp_path):
    command = [sys.executable, PROGRAM, "--root", tmp_path, "up", "--hosts", "1"]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    found = [
        p
        for p in process_table.all_processes()
        if p.argv[-2:] == ("tests.support.lab.inside.switch", f"{tmp_path}/main")
    ]
    assert len(found) == 2  # `unshare` and its child
    assert "no domains" in program("status")


def test_up_keeps_a_foreign_folder(program, tmp_path):
    precious = tmp_path / "main" / "file"
    precious.parent.mkdir()
    precious.touch()
    assert "is no laboratory's" in program("up", status=1)
    assert precious.exists()
    precious.unlink()


@pytest.fixture
def short_path():
    """A folder with a short path: sockets of a laboratory are below it."""
    with TemporaryDirectory(prefix="lab") as directory:
        yield Path(directory)


def test_laboratory_ends_with_its_owner(short_path):
    script = (
        "import os, sys; from pathlib import Path; from tests.support.lab import Lab\n"
        "with Lab(1, root=Path(sys.argv[1])) as lab:\n"
        "    print(lab.name, flush=True); sys.stdin.read()\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script, short_path],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:
        name = owner.stdout.readline().strip()
        assert init_process(short_path, name) is not None
        owner.kill()
    wait_until(lambda: not processes_of(short_path), "the end of all processes")
    assert (short_path / name).exists()
    with Lab(1, root=short_path):
        assert not (short_path / name).exists()
    assert list(short_path.iterdir()) == []


def test_error_says_why_a_daemon_does_not_start(tmp_path, short_path, monkeypatch):
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "libvirtd").write_text("#!/bin/sh\necho it is broken >&2\nexit 1\n")
    (broken / "libvirtd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken}:{os.environ['PATH']}")
    lab = Lab(1, name="broken", root=short_path)
    with pytest.raises(LabError, match=r"hostA does not start: libvirtd(?s:.*)it is broken"):
        lab.up()
    assert init_process(lab.layout.root, "broken") is None
    lab.down()


def test_root_of_another_user_is_refused(program, tmp_path):
    os.chown(tmp_path, 65534, 65534)
    assert "is somebody else's" in program("up", status=1)
    os.chown(tmp_path, 0, 0)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Lab(0), "1 to 26 hosts, not 0"),
        (lambda: Lab(27), "1 to 26 hosts, not 27"),
        (lambda: Lab(name="a/b"), "'a/b' is no name"),
        (lambda: Layout(Path("/" + "x" * 100), "main"), "choose a shorter folder"),
        (lambda: Lab(2).host("hostC"), "no host hostC; there are hostA, hostB"),
        (lambda: Lab().define_guest("a/b"), "'a/b' is no name for a guest"),
        (lambda: Lab().define_guest("a", memory=32), "at least 80 MiB of memory, not 32"),
        (lambda: Lab().define_guest("a", dirty=90), "of 96 MiB, 0 to 24 can be rewritten, not 90"),
        (lambda: Lab().define_guest("a", rate=0), "at least 1 MiB a second, not 0"),
    ],
)
def test_wrong_arguments_are_refused(make, reason):
    with pytest.raises(LabError, match=re.escape(reason)):
        make()


# --- its hosts -----------------------------------------------------------------------------------


def test_hosts_see_each_other(lab):
    for host, other in itertools.pairwise([*lab.hosts, lab.hosts[0]]):
        assert host.run(["hostname"]).stdout == f"{host.name}\n"
        assert host.run(["ssh", other.name, "hostname"]).stdout == f"{other.name}\n"
        for transport in ("tcp", "ssh", "tls"):
            uri = f"qemu+{transport}://{other.name}/system"
            assert host.run(["virsh", "-c", uri, "hostname"]).stdout.strip() == other.name


def test_hosts_have_different_identities(lab):
    identities = {host.virsh("capabilities").partition("</uuid>")[0] for host in lab.hosts}
    assert len(identities) == 3


def test_files_of_a_host_are_private(lab):
    a, b, _ = lab.hosts
    for folder in ("/etc", "/run", "/dev/shm", "/var/lib", "/var/log"):
        a.run(["touch", f"{folder}/of-hostA"])
        assert b.run(["test", "-e", f"{folder}/of-hostA"], check=False).returncode == 1
        assert not Path(folder, "of-hostA").exists()


def test_program_on_a_host_is_a_child_process(lab):
    host = lab.host("hostA")
    with host.popen(["sleep", "1000"]) as process:
        wait_until(lambda: process_table.find(process.pid).argv == ("sleep", "1000"), "sleep")
        assert process.pid in [inside.pid for inside in host.processes]
        process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM
    with pytest.raises(LabError, match="status 3 on hostA: why"):
        host.run(["sh", "-c", "echo why; exit 3"])
    with pytest.raises(subprocess.TimeoutExpired):
        host.run(["sleep", "1000"], timeout=0.1)
    assert "sleep" not in [inside.argv[0] for inside in host.processes]


def test_disconnected_host_is_unreachable(lab):
    a, b = lab.host("hostA"), lab.host("hostB")

    def reach(seconds):
        command = ["ssh", "-o", f"ConnectTimeout={seconds}", "hostB", "true"]
        return a.run(command, check=False).returncode

    assert reach(30) == 0
    b.disconnect()
    assert not b.is_connected
    assert reach(1) == 255
    assert b.domains() == {}  # from outside it is reached
    b.reconnect()
    assert b.is_connected
    wait_until(lambda: reach(5) == 0, "hostB")


def test_domain_survives_a_killed_libvirtd(lab):
    host = lab.host("hostC")
    lab.define_guest("stays", on="hostC", bios=True, memory=16)
    host.virsh("start", "stays")
    host.libvirtd.kill()
    assert not host.libvirtd.is_running
    with pytest.raises(LabError, match="hostC"):
        host.domains()
    host.libvirtd.start()
    assert host.domains() == {"stays": "running"}
    host.qemu("stays").kill()
    wait_until(lambda: lab.running_on("stays") == [], "libvirt to see it")
    with pytest.raises(LabError, match="no QEMU of domain stays on hostC"):
        host.qemu("stays")


def test_frozen_host_does_not_answer(lab):
    host = lab.host("hostC")
    host.freeze()
    with pytest.raises(LabError, match="hostC: libvirtd does not answer"):
        host.domains(patience=0.5)
    host.thaw()
    assert isinstance(host.domains(), dict)


# --- its broker ----------------------------------------------------------------------------------

MIGFRA = "hostname: another\nhypervisor: {type: dummy}\ncommunicator: {host: broker}\n"


def test_daemon_on_a_host_is_reached_from_outside(lab, tmp_path):
    configuration = tmp_path / "migfra.yaml"
    configuration.write_text(MIGFRA)
    argv = [sys.executable, "-m", "fastlib.cli.migfra", "-c", configuration]
    with (
        (tmp_path / "log").open("w") as log,
        lab.host("hostA").popen(argv, stderr=log) as daemon,
        MigfraClient.connect(f"mqtt://{lab.broker}") as client,
    ):
        assert client.start("another", "vm1").result(timeout=2 * WAIT_LIMIT).status == "success"
        lab.broker.mosquitto.kill()
        lab.broker.mosquitto.start()
        assert client.stop("another", "vm1").result(timeout=2 * WAIT_LIMIT).status == "success"
        daemon.terminate()
        assert daemon.wait() == 0


# --- guests --------------------------------------------------------------------------------------


@pytest.fixture
def guest(lab, session_fleet):
    """A guest with Linux on hostA that has measured the pause from its save to its restore."""
    guest = session_fleet.run_guest("hostA", "vm1")
    guest.longest_pause(since=guest.wait_for_heartbeat())
    return guest


def test_virsh_migrates_by_each_transport(lab, guest, request):
    """By default by one: in test_tasks.py the daemons migrate by each of them."""
    source, destination = lab.host("hostA"), lab.host("hostB")
    for transport in ("tcp", "ssh", "tls") if request.config.getoption("--long") else ("tcp",):
        before = guest.wait_for_heartbeat()
        began = time.monotonic()
        uri = f"qemu+{transport}://{destination.name}/system"
        source.virsh("migrate", "--live", "--persistent", "--undefinesource", "vm1", uri)
        assert lab.running_on("vm1") == [destination.name]
        assert "vm1" not in source.domains()
        pause = guest.longest_pause(since=before)
        assert 0 < pause < time.monotonic() - began
        prefer(destination.qemu("vm1"))
        after = guest.wait_for_heartbeat()
        wait_until(
            lambda passes=after.passes: guest.wait_for_heartbeat().passes > passes,
            "a whole pass",
            COMPARE_PATIENCE,
        )
        beats = guest.heartbeats
        first = beats[0].count
        assert [beat.count for beat in beats] == list(range(first, first + len(beats)))
        assert beats[-1].faults == 0
        source, destination = destination, source


def test_guest_measures_a_pause(lab, guest):
    guest.longest_pause(since=guest.wait_for_heartbeat())  # that of its restoration
    before = guest.wait_for_heartbeat()
    lab.host("hostA").virsh("suspend", "vm1")
    began = time.monotonic()
    time.sleep(1.5)  # the pause that is to be measured
    stopped = time.monotonic() - began
    lab.host("hostA").virsh("resume", "vm1")
    assert guest.longest_pause(since=before) >= stopped
    assert guest.longest_pause(since=guest.wait_for_heartbeat()) < stopped


def test_guest_reports_damaged_memory(lab, guest):
    before = guest.wait_for_heartbeat()
    host = lab.host("hostA")
    memory = page_under_test(host.qemu("vm1").pid)
    with open(f"/proc/{host.qemu('vm1').pid}/mem", "r+b", buffering=0) as file:
        file.seek(memory)
        file.write(b"damaged!")
    prefer(host.qemu("vm1"))
    wait_until(
        lambda: guest.wait_for_heartbeat().faults == before.faults + 1,
        "the fault",
        COMPARE_PATIENCE,
    )


def page_under_test(pid):
    """Return the address in QEMU of the first page that the guest only compares."""
    rewritten = 4 * 256  # pages
    seed = (rewritten + 1) * 0x9E3779B97F4A7C15 % 2**64
    pattern = b"".join((seed + word).to_bytes(8, "little") for word in range(512))
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if end - begin == 96 << 20:
            with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
                file.seek(begin)
                return begin + file.read(end - begin).index(pattern)
    raise AssertionError("no memory of that size")


def test_guest_ends_at_the_power_button(lab, guest):
    lab.host("hostA").virsh("shutdown", "vm1")
    wait_until(lambda: lab.running_on("vm1") == [], "the end of the guest")
    assert "\npower off\n" in guest.console.read_text()


# --- the program ---------------------------------------------------------------------------------


def test_exec_passes_input_output_and_status(fleet_program):
    assert fleet_program("exec", "hostA", "cat", input="through").startswith("through")
    fleet_program("exec", "hostA", "--", "sh", "-c", "exit 7", status=7)
    fleet_program("exec", "hostA", "--", "sh", "-c", "kill -9 $$", status=137)
    fleet_program("exec", "hostA", "--", "no-such-program", status=127)
    assert "no host hostX" in fleet_program("exec", "hostX", "--", "true", status=1)
    assert "no command to run" in fleet_program("exec", "hostA", status=1)
    assert "broker" in fleet_program("exec", "broker", "--", "cat", "/etc/hosts")
    assert fleet_program("shell", "hostA", input="hostname\n") == "hostA\n"


def test_program_makes_faults(fleet_program):
    fleet_program("disconnect", "hostA")
    assert "disconnected" in fleet_program("status")
    fleet_program("reconnect", "hostA")
    fleet_program("freeze", "hostA", "libvirtd")
    assert "libvirtd does not answer" in fleet_program("status")
    fleet_program("thaw", "hostA", "libvirtd")
    fleet_program("kill", "hostA", "libvirtd")
    fleet_program("start", "hostA")
    assert "connected; no domains" in fleet_program("status")
    assert "no QEMU of domain vm9" in fleet_program("kill", "hostA", "vm9", status=1)
    assert "no libvirtd on broker" in fleet_program("kill", "broker", "libvirtd", status=1)
    assert "no mosquitto on hostA" in fleet_program("freeze", "hostA", "mosquitto", status=1)
    assert "no domains on broker" in fleet_program("freeze", "broker", "vm1", status=1)


def test_readme_uses_existing_commands(capsys):
    text = (LAB / "README.md").read_text()
    lines = re.findall(r"^(?:sudo )?tests/support/lab/lab (.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert len(lines) > 10
    for line in lines:
        command.parser().parse_args(shlex.split(line))
