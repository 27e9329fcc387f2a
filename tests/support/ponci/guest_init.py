"""The first program of the guest: it runs the checks and prints the results to its console."""

import ctypes
import os
import sys
import traceback
from pathlib import Path

PROJECT = "/project"
NAMES = Path("/checks")
_libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, point: str) -> None:
    os.makedirs(point, exist_ok=True)
    if _libc.mount(kind.encode(), point.encode(), kind.encode(), 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"{kind} cannot be mounted at {point}")


def run_all() -> None:
    from tests.support.migfra import bench
    from tests.support.ponci import checks
    from tests.support.ponci.cgroup_trees import CgroupTrees
    from tests.support.ponci.runner import run_check

    bench.PATIENCE = 300  # seconds; an emulated guest on a busy machine is slow
    version = CgroupTrees("").version
    print(f"cgroup {version}, Linux {os.uname().release}", flush=True)
    for name in NAMES.read_text().splitlines():
        print(f"BEGIN {name}", flush=True)
        try:
            run_check(checks.by_name()[name])
        except BaseException:
            traceback.print_exc(file=sys.stdout)
            print(f"FAILED {name}", flush=True)
        else:
            print(f"PASSED {name}", flush=True)


def main() -> None:
    for kind, point in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"),
                        ("tmpfs", "/tmp"), ("cgroup2", "/sys/fs/cgroup")):  # fmt: skip
        mount(kind, point)
    console = os.open("/dev/console", os.O_RDWR)
    for file in range(3):
        os.dup2(console, file)
    os.environ.update(PATH="/bin", PYTHONPATH=PROJECT, LANG="C.UTF-8", TMPDIR="/tmp")
    sys.path[:0] = [PROJECT]
    child = os.fork()
    if child == 0:
        try:
            run_all()
        except BaseException:
            traceback.print_exc(file=sys.stdout)
        finally:
            sys.stdout.flush()
            os._exit(0)
    while os.wait()[0] != child:
        pass  # what other processes have left to the first one
    print("THE END", flush=True)
    _libc.reboot(0x4321FEDC)  # power off


main()
