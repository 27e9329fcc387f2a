"""The command line of the laboratory."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from . import image, layout
from .errors import LabError
from .host import Container, Host, Service
from .laboratory import Lab
from .process_table import Process

_EPILOG = """\
HOST is hostA, hostB and so on, or `broker`, the place where mosquitto stands.
WHAT is `libvirtd`, the name of a domain, or on the broker `mosquitto`; without it, the whole host.
"""


Action = Callable[[argparse.Namespace], int | None]


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    try:
        status: int | None = options.action(options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status or 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the program."""
    whole = argparse.ArgumentParser(
        prog="lab",
        description="Several hosts with libvirt on one machine, and a broker.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--name", default="main", help="which laboratory (main)")
    whole.add_argument(
        "--root", type=Path, help=f"folder of all laboratories ({layout.default_root()})"
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: Action, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text[0].upper() + text[1:])
        made.set_defaults(action=action)
        return made

    def on_host(name: str, action: Action, text: str) -> argparse.ArgumentParser:
        made = command(name, action, text)
        made.add_argument("host", metavar="HOST")
        return made

    up = command("up", _up, "bring the laboratory up, unless it is up")
    up.add_argument("--hosts", type=int, default=2, help="how many (2)")
    command("down", _down, "end everything in it and remove its folder")
    command("status", _status, "what is there and how it is")
    on_host("shell", _shell, "a shell on a host")
    run = on_host("exec", _exec, "run a command on a host")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    guest = on_host("define", _define, "describe a guest and define it on a host")
    guest.add_argument("guest", metavar="GUEST")
    guest.add_argument("--memory", type=int, default=96, help="MiB (96)")
    guest.add_argument("--vcpus", type=int, default=1)
    guest.add_argument("--dirty", type=int, default=8, help="MiB that it rewrites (8)")
    guest.add_argument("--rate", type=int, default=8, help="MiB a second (8)")
    guest.add_argument("--bios", action="store_true", help="without Linux, to start at once")
    console = command("console", _console, "the console of a guest, as it grows")
    console.add_argument("guest", metavar="GUEST")
    on_host("disconnect", lambda o: _host(o).disconnect(), "disconnect the link of a host")
    on_host("reconnect", lambda o: _host(o).reconnect(), "connect it again")
    for name, text in {
        "kill": "kill a domain's QEMU or a daemon",
        "freeze": "stop it, or all of a host, without ending it",
        "thaw": "let it go on",
    }.items():
        made = on_host(name, partial(_fault, name), text)
        made.add_argument("what", metavar="WHAT", nargs=None if name == "kill" else "?")
    on_host("start", _start, "start the daemons of a host that do not run")
    command("image", _image, "make what guests boot, and say where it is")
    return whole


def _lab(options: argparse.Namespace) -> Lab:
    return Lab.named(options.name, options.root)


def _place(options: argparse.Namespace) -> Container:
    lab = _lab(options)
    return lab.broker if options.host == layout.BROKER else lab.host(options.host)


def _host(options: argparse.Namespace) -> Host:
    return _lab(options).host(options.host)


def _up(options: argparse.Namespace) -> None:
    began = time.monotonic()
    lab = Lab(options.hosts, name=options.name, root=options.root)
    lab.up()
    names = ", ".join(host.name for host in lab.hosts)
    print(f"{names} and the broker are up ({time.monotonic() - began:.1f} s)")
    print(f"the broker is {lab.broker} here, {lab.broker.inside} inside")


def _down(options: argparse.Namespace) -> None:
    Lab(name=options.name, root=options.root).down()


def _status(options: argparse.Namespace) -> None:
    lab = _lab(options)
    runs = "runs" if lab.broker.mosquitto.is_running else "does not run"
    print(f"broker  {lab.broker.address:<12} mosquitto {runs}; here it is {lab.broker}")
    for host in lab.hosts:
        print(f"{host.name:<7} {host.address:<12} {_state(host)}")


def _state(host: Host) -> str:
    if not host.is_up:
        return "has died; `lab up` brings the laboratory up anew"
    return f"{'connected' if host.is_connected else 'disconnected'}; {_libvirt(host)}"


def _libvirt(host: Host) -> str:
    if not host.libvirtd.is_running:
        return "libvirtd does not run"
    try:
        domains = host.domains(patience=3)
    except LabError as error:
        return str(error)
    return ", ".join(f"{name} is {state}" for name, state in domains.items()) or "no domains"


def _shell(options: argparse.Namespace) -> int:
    shell = os.environ.get("SHELL", "/bin/sh")
    return _attend(_place(options), [shell])


def _exec(options: argparse.Namespace) -> int:
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not argv:
        raise LabError("no command to run: lab exec HOST -- COMMAND")
    return _attend(_place(options), argv)


def _attend(place: Container, argv: list[str]) -> int:
    """Run a program in the foreground; its exit status, 128 and more if a signal ended it."""
    process = place.popen(argv)
    # What the terminal sends, it sends to both; the program decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: process.send_signal(number))
    status = process.wait()
    return status if status >= 0 else 128 - status


def _define(options: argparse.Namespace) -> None:
    guest = _lab(options).define_guest(
        options.guest,
        on=options.host,
        memory=options.memory,
        vcpus=options.vcpus,
        dirty=options.dirty,
        rate=options.rate,
        bios=options.bios,
    )
    print(f"{guest.name} is defined on {options.host}; its console is {guest.console}")


def _console(options: argparse.Namespace) -> None:
    path = _lab(options).layout.guests / f"{options.guest}.log"
    if not path.exists():
        raise LabError(f"no guest {options.guest} has written anything")
    os.execvp("tail", ["tail", "-n", "+1", "-F", str(path)])


def _fault(fault: str, options: argparse.Namespace) -> None:
    place = _place(options)
    target: Container | Service | Process = place
    if options.what in _SERVICES:
        target = _service(place, options.what)
    elif options.what is not None:
        if not isinstance(place, Host):
            raise LabError(f"no domains on {place.name}, only mosquitto")
        target = place.qemu(options.what)
    getattr(target, fault)()


def _start(options: argparse.Namespace) -> None:
    place = _place(options)
    _service(place, "libvirtd" if isinstance(place, Host) else "mosquitto").start()


_SERVICES = ("libvirtd", "mosquitto")


def _service(place: Container, name: str) -> Service:
    found = getattr(place, name, None)
    if not isinstance(found, Service):
        raise LabError(f"no {name} on {place.name}")
    return found


def _image(options: argparse.Namespace) -> None:
    for path in image.image():
        print(path)
