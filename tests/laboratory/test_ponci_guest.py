"""Check ponci with cgroup v2 in an emulated guest, because a machine has one version at a time.

The kernel is booted with `cgroup_no_v1=all`, two CPUs and two memory nodes. It boots once, and runs
all checks that are asked for.
"""

import re
import subprocess

import pytest

from tests.support.lab.kvm import has_hardware_kvm
from tests.support.ponci.checks import UNIFIED, WITHOUT_CPUSET, of

CHECKS = [check.__name__ for check in of("v2")]
WHERE_VERSIONS_DIFFER = [
    "domain_binds_its_processes_to_cpus_and_memory",
    "suspended_domain_does_not_run",
    "force_kills_all_processes_of_a_domain",
    "force_kills_frozen_groups_in_a_domain",
    "frozen_group_above_is_reported",
    "frozen_groups_in_a_domain_are_thawed",
    "query_works_without_the_parent",
    "suspend_times_out_and_thaws",
    "recover_finishes_interrupted_suspend",
    "recover_finishes_interrupted_stop",
    *(name for name in CHECKS if name.startswith("v2_")),
]
"""The default run has only these, because an emulated guest is slow; --long has all checks.

On a machine that has v2 beside v1, `tests/hypervisors/ponci/test_v2_beside_v1.py` runs those of
`WITHOUT_CPUSET` in a small part of the time, with the code that differs and a real kernel. The
default run leaves them to it.
"""
IN_THE_GUEST = [
    name for name in WHERE_VERSIONS_DIFFER if UNIFIED is None or name not in WITHOUT_CPUSET
]
LIMIT = 1500
"""Seconds until the guest is given up. Emulated, it needs about a minute of an idle core."""
_MACHINE = (
    *("-machine", "pc", "-smp", "2", "-m", "768", "-nodefaults"),
    *("-object", "memory-backend-ram,id=first,size=512M"),
    *("-object", "memory-backend-ram,id=second,size=256M"),
    *("-numa", "node,nodeid=0,cpus=0,memdev=first"),
    *("-numa", "node,nodeid=1,cpus=1,memdev=second"),
    *("-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"),
)
_EMULATED = ("-accel", "tcg", "-cpu", "max,la57=off,avx=off,avx2=off")
"""Five levels of page tables and wide vectors only make the emulation slower."""
_KVM = ("-accel", "kvm", "-cpu", "host")
_COMMAND_LINE = (
    "console=ttyS0 quiet panic=-1 mitigations=off cryptomgr.notests no_timer_check cgroup_no_v1=all"
)

pytestmark = [pytest.mark.laboratory, pytest.mark.guest, pytest.mark.timeout(LIMIT + 300)]


@pytest.fixture(scope="module")
def console(request, tmp_path_factory) -> str:
    """Return the console of the guest, which has run the checks of all selected tests."""
    from tests.support.ponci.guest_image import image

    here = [item for item in request.session.items if item.path == request.path]
    asked = [item.callspec.params["name"] for item in here if hasattr(item, "callspec")]
    kernel, archive = image(tmp_path_factory.mktemp("guest"), asked)
    accelerator = _KVM if has_hardware_kvm() else _EMULATED
    boot = ("-kernel", kernel, "-initrd", archive, "-append", _COMMAND_LINE)
    done = subprocess.run(
        ["qemu-system-x86_64", *accelerator, *_MACHINE, *boot],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    archive.unlink()
    output = done.stdout.decode(errors="replace").replace("\r", "")
    assert done.returncode == 0, done.stderr.decode() + output
    return output


def test_guest_has_cgroup_v2(console):
    assert re.search("^cgroup v2, Linux [0-9]", console, re.MULTILINE), console
    assert "\nTHE END\n" in console, console


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        is_long = metafunc.config.getoption("--long")
        metafunc.parametrize("name", CHECKS if is_long else IN_THE_GUEST)


def test_check_passes_in_guest(console, name):
    _, _, output = console.partition(f"BEGIN {name}\n")
    assert f"PASSED {name}\n" in output, output.partition(f"FAILED {name}\n")[0] or console
