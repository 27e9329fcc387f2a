"""Move domains without fastlib, in a process on a host of the laboratory, and measure the time.

It reads an order a line, and answers with the seconds that it took. `virsh` is run as an operator
runs it, its start included; `call` is the bare call of libvirt's, on a connection that is open.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

HERE = "qemu:///system"
OPTIONS = ("--live", "--p2p", "--persistent", "--undefinesource")
DISKS = "--copy-storage-all"
TLS = "--tls"


def flags(more: Sequence[str] = ()) -> int:
    """Return the flags that equal the options of virsh, and `more` of these."""
    import libvirt

    found: int = (
        libvirt.VIR_MIGRATE_LIVE
        | libvirt.VIR_MIGRATE_PEER2PEER
        | libvirt.VIR_MIGRATE_PERSIST_DEST
        | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    )
    others = {DISKS: libvirt.VIR_MIGRATE_NON_SHARED_DISK, TLS: libvirt.VIR_MIGRATE_TLS}
    for option in more:
        found |= others[option]
    return found


def by_virsh(
    connection: Any, destination: str, domains: Sequence[str], more: Sequence[str]
) -> None:
    """Run one virsh for each domain, all at once."""
    command = ["virsh", "--quiet", "--connect", HERE, "migrate", *OPTIONS, *more]
    running = [
        subprocess.Popen(
            [*command, domain, destination],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
        )
        for domain in domains
    ]
    ended = [process.wait() for process in running]
    if any(ended):
        raise RuntimeError("virsh failed")


def by_call(connection: Any, destination: str, domains: Sequence[str], more: Sequence[str]) -> None:
    """Call libvirt for one domain after the other."""
    for domain in domains:
        connection.lookupByName(domain).migrateToURI3(destination, {}, flags(more))


Way = Callable[[Any, str, Sequence[str], Sequence[str]], None]
WAYS: dict[str, Way] = {"virsh": by_virsh, "call": by_call}


def main() -> None:
    """Move domains until standard input ends."""
    import libvirt

    connection = libvirt.open(HERE)
    _say("ready")
    for line in sys.stdin:
        order = json.loads(line)
        uri = f"qemu+tcp://{order['destination']}/system"
        begin = time.perf_counter()
        WAYS[order["how"]](connection, uri, order["domains"], order["more"])
        _say(time.perf_counter() - begin)


def _say(what: str | float) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
