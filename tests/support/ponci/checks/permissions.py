"""Operations that the machine does not permit."""

import os
import subprocess
import sys

from fastlib import Start
from tests.support.ponci.runner import PonciRunner
from tests.support.ponci.workload import Counter

_OPEN = """
import ctypes, os, sys
from fastlib import Start, Start, Stop
from fastlib.migfra import Context, HypervisorError
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.hypervisors.ponci import PonciHypervisor, PonciOptions
hypervisor = PonciHypervisor(PonciOptions(parent=sys.argv[1]), NodeContext("node01"))
{first}
try:
    hypervisor.check_open()
    if {only_check}:
        raise SystemExit(print("it can be opened"))
    hypervisor.open()
    hypervisor.start(Start(vm_name="vm1", vcpu_map=[[0]]), Context("node01"))
    hypervisor.stop(Stop(vm_name="vm1"), Context("node01"))
except HypervisorError as error:
    print(error)
else:
    print("it works")
"""
_KILL = """
import ctypes, os, sys
from fastlib import Resume, Stop, Suspend
from fastlib.migfra import Context
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.hypervisors.ponci import PonciHypervisor, PonciOptions
hypervisor = PonciHypervisor(PonciOptions(parent=sys.argv[1]), NodeContext("node01"))
{first}
hypervisor.check_open()
hypervisor.open()
for task in (Suspend(vm_name="vm1"), Resume(vm_name="vm1"), Stop(vm_name="vm1", force=True)):
    getattr(hypervisor, type(task).__name__.lower())(task, Context("node01"))
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
_USER_OF_UNIT = """
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(8, 1, 0, 0, 0) == 0  # PR_SET_KEEPCAPS
os.setgroups([]); os.setgid(65534); os.setuid(65534)
rights = 1 << 1 | 1 << 5  # CAP_DAC_OVERRIDE and CAP_KILL, as migfra-deploy gives them
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
assert libc.capset(header, (ctypes.c_uint32 * 6)(rights, rights, 0, 0, 0, 0)) == 0
"""
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


async def user_with_the_rights_of_the_unit_can_use_all_groups(runner: PonciRunner) -> None:
    assert _opened(runner, _USER_OF_UNIT) == "it works\n"
    with Counter(runner.directory) as counter:  # it is of another user
        await runner.do(Start(vm_name="vm1"))
        runner.trees.join(counter.pid, "vm1")
        assert _opened(runner, _USER_OF_UNIT, code=_KILL) == "it works\n"
        assert counter.process.wait() == -9
    assert not runner.trees.exists("vm1")


async def check_of_a_start_makes_no_group(runner: PonciRunner) -> None:
    said = _opened(runner, "", only_check=True)
    assert said == "it can be opened\n"
    assert not runner.trees.exists("new")
    said = _opened(runner, _NOBODY, only_check=True)
    assert "this user must not read or change" in said


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


def _opened(
    runner: PonciRunner, first: str, *more: object, code: str = _OPEN, only_check: bool = False
) -> str:
    """Return the error of a hypervisor that opens in a separate process."""
    parent = f"{runner.parent}/new" if code == _OPEN else runner.parent
    text = code.format(first=first, only_check=only_check)
    command = [sys.executable, "-c", text, parent]
    done = subprocess.run([*command, *map(str, more)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1, done.stdout
    return done.stdout
