"""Post-copy over a link that is cut: the domain arrives with all of its memory, or nothing is lost.

Part of the memory is at each host when the link is cut. libvirt gives up a silent peer after 12 s
here, and reports a failed post-copy.
"""

import pytest

from tests.support.lab.fleet import assert_success
from tests.support.lab.qemu_certificates import certified
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.laboratory, pytest.mark.timeout(1200)]
GUEST = {"dirty": 16, "rate": 32}
OPTIONS = {"stall-timeout": 20, "recover-timeout": 200}
LONG = 500.0


@pytest.fixture
def daemon_options():
    return OPTIONS


def begin_post_copy(fleet, **options):
    """Migrate a guest that does not converge, until it is in post-copy. Returns the handle."""
    fleet.run_guest("hostA", "vm1", **GUEST)
    handle = fleet.client.migrate(
        "vm1", "hostA", "hostB", migration_type="live", on_timeout="post-copy",
        migration_timeout=2, bandwidth_limit=2, **options,
    )  # fmt: skip
    fleet.wait_for_phase(handle, "post-copy")
    handle.phases = []
    handle.on_progress(lambda progress: handle.phases.append(progress.phase))
    return handle


def wait_for_failed_post_copy(fleet):
    """Wait until the source's libvirt has noticed the cut."""
    host = fleet.lab.host("hostA")
    wait_until(
        lambda: "post-copy failed" in host.virsh("domstate", "vm1", "--reason"),
        lambda: host.virsh("domstate", "vm1", "--reason"),
        LONG,
    )


def interrupt(fleet):
    """Let QEMU give up the stream, as after a reset of its connection."""
    fleet.lab.host("hostA").virsh("domjobabort", "vm1", "--postcopy")


def finish(fleet, handle, *, encrypted=False):
    """The domain arrives with all of its memory, and the result says how. Returns the result."""
    fleet.lift_bandwidth_limit("hostA", "vm1")
    result = handle.result(LONG)
    assert result.status == "success", fleet.daemons["hostA"].log[-40:]
    assert "its post-copy was interrupted" in result.details
    assert result.encrypted is encrypted
    assert "recover" in handle.phases
    fleet.assert_runs_only_on("vm1", "hostB")
    return result


@pytest.mark.both_modes(only_long=True)
def test_cut_link_is_awaited(fleet):
    """Usually the stream goes on when the link is back; if it does not, it is resumed."""
    handle = begin_post_copy(fleet)
    fleet.lab.host("hostB").disconnect()
    wait_for_failed_post_copy(fleet)
    fleet.wait_for_phase(handle, "recover")
    fleet.lab.host("hostB").reconnect()
    finish(fleet, handle)


def test_broken_stream_is_resumed(fleet):
    handle = begin_post_copy(fleet)
    interrupt(fleet)
    assert "and has resumed" in finish(fleet, handle).details


def test_encrypted_stream_is_resumed_encrypted(fleet):
    with certified(fleet.lab):
        handle = begin_post_copy(fleet)
        interrupt(fleet)
        assert "and has resumed" in finish(fleet, handle, encrypted=True).details


def test_restarted_daemon_resumes(fleet):
    handle = begin_post_copy(fleet)
    fleet.daemons["hostA"].kill()
    interrupt(fleet)
    wait_for_failed_post_copy(fleet)
    fleet.daemons["hostA"].start()
    result = handle.result(LONG)
    assert_success(result)
    assert "found done after the daemon's restart" in result.details
    fleet.assert_runs_only_on("vm1", "hostB")
