"""The first process of a laboratory: the bridge, the broker, and the hosts, which end with it.

`python -m tests.support.lab.inside.switch FOLDER`; it says `ready`, or what went wrong, on its
standard output.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.lab.layout import BROKER, BROKER_ADDRESS, BROKER_PORT, Layout, address

from . import configuration
from .mounts import begin_empty, bind
from .services import Service, block_signals, keep, spawn

_NAMESPACES = ("--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")


def main(directory: str) -> None:
    block_signals()
    state = Path(directory)
    layout = Layout(state.parent, state.name)
    settings = json.loads(layout.settings.read_text())
    if settings["owned"]:
        threading.Thread(target=_end_with_owner, daemon=True).start()
    hosts: list[str] = settings["hosts"]
    begin_empty(state)
    names = Path("/run/hosts")
    names.write_text(configuration.hosts(hosts))
    bind(names, Path("/etc/hosts"))
    _wire(hosts)
    services = [_broker(layout), _relay(layout, settings["relay"])]
    for service in services:
        service.start()
    reports = [(host, _start(layout, host)) for host in hosts]
    for host, report in reports:
        with os.fdopen(report) as lines:
            said = lines.readline().strip()
        if said != "ready":
            reason = said or f"it ended; {layout.logs / host}.log may say why"
            print(f"{host} does not start: {reason}", flush=True)
            return
    print("ready", flush=True)
    # Whoever waits for that has it; nobody reads what may come after.
    os.dup2(2, 1)
    keep(services)


def _end_with_owner() -> None:
    """The owner holds the other end of standard input. The kernel closes it at each end."""
    os.read(0, 1)
    os._exit(0)


def _wire(hosts: list[str]) -> None:
    for host in hosts:
        # The name stands in this namespace's own /run.
        subprocess.run(["ip", "netns", "add", host], check=True)
    lines = [
        "link set lo up",
        "link add bridge type bridge",
        f"address add {BROKER_ADDRESS}/24 dev bridge",
        "link set bridge up",
    ]
    for host in hosts:
        lines += [
            f"link add {host} type veth peer name eth0 netns {host}",
            f"link set {host} master bridge up",
        ]
    _ip(lines)
    for host in hosts:
        _ip(
            ["link set lo up", f"address add {address(host)}/24 dev eth0", "link set eth0 up"],
            "-netns",
            host,
        )


def _ip(lines: list[str], *options: str) -> None:
    subprocess.run(["ip", *options, "-batch", "-"], input="\n".join(lines), text=True, check=True)


def _start(layout: Layout, host: str) -> int:
    """Start the first process of a host; the descriptor from which its report is read."""
    ours, theirs = os.pipe()
    command = ["nsenter", f"--net=/run/netns/{host}", "unshare", *_NAMESPACES]
    command += [sys.executable, "-m", "tests.support.lab.inside.host", str(layout.directory), host]
    spawn(command, layout.logs / f"{host}.log", stdout=theirs)
    os.close(theirs)
    return ours


def _broker(layout: Layout) -> Service:
    path = Path("/run/mosquitto.conf")
    path.write_text(configuration.mosquitto(BROKER_PORT, str(layout.logs / f"{BROKER}.log")))
    return Service(["mosquitto", "-c", str(path)], layout.logs / f"{BROKER}.log")


def _relay(layout: Layout, listening: int) -> Service:
    os.set_inheritable(listening, True)
    command = [sys.executable, "-m", "tests.support.lab.inside.relay", str(listening)]
    return Service([*command, BROKER_ADDRESS, str(BROKER_PORT)], layout.logs / "relay.log")


if __name__ == "__main__":
    main(*sys.argv[1:])
