"""Operations that the machine does not permit."""

import os
import subprocess
import sys

from fastlib import Start
from tests.support.ponci.runner import PonciRunner

_OPEN = """
import ctypes, os, sys
from fastlib import Start, Start, Stop
from fastlib.migfra import Context, HypervisorError
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.hypervisors.ponci import PonciHypervisor, PonciOptions
hypervisor = PonciHypervisor(PonciOptions(parent=sys.argv[1]), NodeContext("node01"))
{first}
try:
    hypervisor.open()
    hypervisor.start(Start(vm_name="vm1", vcpu_map=[[0]]), Context("node01"))
    hypervisor.stop(Stop(vm_name="vm1"), Context("node01"))
except HypervisorError as error:
    print(error)
else:
    print("it works")
"""
_QUERY = """
import os, sys
from fastlib.message.tasks import Query
from fastlib.migfra import Context
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.hypervisors.ponci import PonciHypervisor, PonciOptions
hypervisor = PonciHypervisor(PonciOptions(parent=sys.argv[1]), NodeContext("node01"))
hypervisor.open()
{first}
report = hypervisor.query(Query(), Context("node01"))
print({{each.name: each.state for each in report.domains}})
"""
_NOBODY = "os.setgroups([]); os.setgid(65534); os.setuid(65534)"
_READ_ONLY = """
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x00020000) == 0  # CLONE_NEWNS
assert libc.mount(None, b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
for point in sys.argv[2:]:
    assert libc.mount(None, point.encode(), None, 0x1021, None) == 0  # MS_REMOUNT|BIND|RDONLY
"""


async def unprivileged_user_is_refused(runner: PonciRunner) -> None:
    said = _opened(runner, _NOBODY)
    assert "this user must not read or change" in said
    assert "(Permission denied); run the daemon as root, or del" in said


async def unprivileged_user_can_use_delegated_group(runner: PonciRunner) -> None:
    for parent in runner.trees.parents:
        os.chown(parent, 65534, 65534)
    assert _opened(runner, _NOBODY) == "it works\n"


async def read_only_mount_is_reported(runner: PonciRunner) -> None:
    said = _opened(runner, _READ_ONLY, *runner.trees.roots)
    assert "is mounted read-only; mount its file system writable" in said


async def unreadable_domain_is_unknown(runner: PonciRunner) -> None:
    """Such as a domain of another user, in a group that was delegated."""
    for name in ("vm1", "vm2"):
        await runner.do(Start(vm_name=name))
    for folder in runner.trees.of("vm1"):
        folder.chmod(0)
    said = _opened(runner, _NOBODY, code=_QUERY)
    assert said == "{'vm1': 'unknown', 'vm2': 'running'}\n"


def _opened(runner: PonciRunner, first: str, *more: object, code: str = _OPEN) -> str:
    """Return the error of a hypervisor that opens in a separate process."""
    parent = runner.parent if code == _QUERY else f"{runner.parent}/new"
    command = [sys.executable, "-c", code.format(first=first), parent]
    done = subprocess.run([*command, *map(str, more)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    return done.stdout
