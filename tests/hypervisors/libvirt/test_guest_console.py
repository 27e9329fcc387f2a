"""The reader of a guest's console (`tests/support/lab/guest.py`), without a laboratory."""

import pytest

from tests.support.lab.errors import LabError
from tests.support.lab.guest import Guest

BEAT = (
    "beat count={} uptime=5.27 measured=5.20 pause=0.02 longest=0.61 passes=4 faults=0 "
    "memory=62032 cpus=1 disk=0 stale=0\n"
)
CRASH = """\
[    6.320976] BUG: kernel NULL pointer dereference, address: 0000000000000000
[    6.326433] #PF: supervisor instruction fetch in kernel mode
[    6.332253] Oops: 0010 [#1] PREEMPT SMP NOPTI
[    6.366728] Kernel panic - not syncing: Fatal exception in interrupt
"""


@pytest.fixture
def guest(tmp_path):
    return Guest("vm1", "<domain/>", tmp_path / "vm1.log")


def test_wait_for_a_beat_ends_at_once_when_the_kernel_of_the_guest_has_crashed(guest):
    guest.console.write_text(BEAT.format(7) + CRASH)
    assert guest.crash == "BUG: kernel NULL pointer dereference, address: 0000000000000000"
    with pytest.raises(LabError, match="the kernel of guest vm1 has crashed: BUG: kernel NULL"):
        guest.wait_for_heartbeat()
    assert [beat.count for beat in guest.heartbeats] == [7]


def test_new_boot_clears_an_earlier_crash(guest):
    guest.console.write_text(BEAT.format(7) + CRASH + BEAT.format(1))
    assert guest.crash is None
    assert guest.wait_for_heartbeat().count == 1


def test_guest_that_has_written_nothing_has_not_crashed(guest):
    assert guest.crash is None
    assert guest.heartbeats == []
