"""The first process of a host: its own files, libvirtd and sshd.

`python -m tests.support.lab.inside.host FOLDER HOST`; it says `ready` on its standard output.
"""

import os
import re
import select
import shutil
import socket
import sys
import time
import uuid
from pathlib import Path

from tests.support.lab.errors import LabError
from tests.support.lab.layout import Layout
from tests.support.waiting import WAIT_LIMIT, wait_until

from . import configuration
from .mounts import begin_empty, bind, make_private
from .services import Service, block_signals, keep, reap

_NOTIFY = "/run/notify"


def main(directory: str, name: str) -> None:
    block_signals()
    state = Path(directory)
    layout = Layout(state.parent, state.name)
    socket.sethostname(name)
    begin_empty(state)
    make_private(state)
    Path("/run/libvirt").mkdir()
    bind(layout.runtime(name), Path("/run/libvirt"))
    _write_files(layout, name)
    libvirtd = Service(
        ["libvirtd", "--listen", "--config", "/etc/libvirt/libvirtd.conf"],
        layout.logs / f"{name}-libvirtd.log",
        {"NOTIFY_SOCKET": _NOTIFY},
    )
    sshd = Service(["/usr/sbin/sshd", "-D", "-e"], layout.logs / f"{name}-sshd.log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        notifications.bind(_NOTIFY)
        sshd.start()
        libvirtd.start()
        _wait_for(notifications, libvirtd)
    wait_until(lambda: _accepts(22), "sshd", error=LabError)
    print("ready", flush=True)
    keep([libvirtd, sshd])


def _wait_for(notifications: socket.socket, service: Service) -> None:
    """Until libvirtd says that it works; ends this process if it does not."""
    end = time.monotonic() + WAIT_LIMIT
    while time.monotonic() < end and service.pid is not None:
        if select.select([notifications], [], [], 0.1)[0] and b"READY=1" in notifications.recv(
            4096
        ):
            return
        reap([service])
    print(f"libvirtd does not start; {service.log} may say why", flush=True)
    os._exit(1)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _write_files(layout: Layout, name: str) -> None:
    etc = Path("/etc")
    keys = layout.keys
    hosts = [path.name for path in sorted((layout.directory / "run").iterdir())]
    _put(etc / "hostname", f"{name}\n")
    _put(etc / "hosts", configuration.hosts(hosts))
    _accounts(etc)
    _put(
        etc / "libvirt/libvirtd.conf",
        configuration.libvirtd(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.{layout.directory}"), name),
    )
    _put(etc / "libvirt/qemu.conf", configuration.QEMU)
    pki = etc / "pki"
    for path, source in {
        pki / "CA/cacert.pem": keys / "ca.pem",
        pki / "libvirt/servercert.pem": keys / f"{name}.pem",
        pki / "libvirt/private/serverkey.pem": keys / f"{name}.key",
        pki / "libvirt/clientcert.pem": keys / f"{name}.pem",
        pki / "libvirt/private/clientkey.pem": keys / f"{name}.key",
        etc / "ssh/lab_host_key": keys / f"{name}-ssh",
        etc / "ssh/lab_user_key": keys / "user",
        etc / "ssh/lab_authorized_keys": keys / "user.pub",
        etc / "ssh/lab_known_hosts": keys / "known_hosts",
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)
        path.chmod(0o600)
    _put(etc / "ssh/ssh_config", configuration.SSH)
    _put(etc / "ssh/sshd_config", configuration.SSHD)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)


def _accounts(etc: Path) -> None:
    """libvirt wants its user even if it runs QEMU as root; sshd refuses a locked account."""
    for file, line in {
        "passwd": "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n",
        "group": "libvirt-qemu:x:64055:\n",
    }.items():
        text = (etc / file).read_text()
        if "\nlibvirt-qemu:" not in text:
            _put(etc / file, text + line)
        if file == "passwd" and "\nsshd:" not in text:
            _put(etc / file, text + line + "sshd:x:64056:65534::/run/sshd:/usr/sbin/nologin\n")
    shadow = etc / "shadow"
    if shadow.exists():
        _put(shadow, re.sub("(?m)^root:[^:]*", "root:*", shadow.read_text()))


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
