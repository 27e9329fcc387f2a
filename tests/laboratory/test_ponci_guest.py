"""ponci with cgroup v2: in a guest, as a machine has one version at a time.

The kernel is booted with `cgroup_no_v1=all`, two CPUs and two memory nodes.
"""

import re
import subprocess

import pytest

from tests.support.ponci.checks import of

CHECKS = [check.__name__ for check in of("v2")]
WHERE_VERSIONS_DIFFER = [
    "domain_binds_its_processes_to_cpus_and_memory",
    "suspended_domain_does_not_run",
    "force_kills_all_processes_of_a_domain",
    "frozen_group_above_is_reported",
    "suspend_times_out_and_thaws",
    "recover_finishes_interrupted_suspend",
    "recover_finishes_interrupted_stop",
    *(name for name in CHECKS if name.startswith("v2_")),
]
"""By default only these, as each takes its time in a guest; all of them with --long."""
LONGEST = 1800
"""Seconds; the guest is emulated, and needs two to seven minutes."""
_MACHINE = (
    *("-accel", "tcg", "-machine", "pc", "-cpu", "max", "-smp", "2", "-m", "768", "-nodefaults"),
    *("-object", "memory-backend-ram,id=first,size=512M"),
    *("-object", "memory-backend-ram,id=second,size=256M"),
    *("-numa", "node,nodeid=0,cpus=0,memdev=first"),
    *("-numa", "node,nodeid=1,cpus=1,memdev=second"),
    *("-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"),
)
_COMMAND_LINE = "console=ttyS0 quiet panic=-1 mitigations=off cgroup_no_v1=all"

pytestmark = pytest.mark.laboratory


@pytest.fixture(scope="module")
def console(request, tmp_path_factory) -> str:
    """What the guest has told when it was off again. It plays the checks that are asked for."""
    from tests.support.ponci.guest_image import image

    here = [item for item in request.session.items if item.path == request.path]
    asked = [item.callspec.params["name"] for item in here if hasattr(item, "callspec")]
    kernel, archive = image(tmp_path_factory.mktemp("guest"), asked)
    boot = ("-kernel", kernel, "-initrd", archive, "-append", _COMMAND_LINE)
    done = subprocess.run(
        ["qemu-system-x86_64", *_MACHINE, *boot],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=LONGEST,
        check=False,
    )
    archive.unlink()
    told = done.stdout.decode(errors="replace").replace("\r", "")
    assert done.returncode == 0, done.stderr.decode() + told
    return told


def test_it_has_the_other_version(console):
    assert re.search("^cgroup v2, Linux [0-9]", console, re.MULTILINE), console
    assert "\nTHE END\n" in console, console


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        at_length = metafunc.config.getoption("--long")
        metafunc.parametrize("name", CHECKS if at_length else WHERE_VERSIONS_DIFFER)


def test_in_guest(console, name):
    _, _, said = console.partition(f"BEGIN {name}\n")
    assert f"PASSED {name}\n" in said, said.partition(f"FAILED {name}\n")[0] or console
