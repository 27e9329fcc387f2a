"""A post-copy that was interrupted: when it is resumed, and when nothing more can be done.

The hosts are fake ones, in virtual time; tests/laboratory/test_post_copy.py cuts real links.
"""

import pytest

from fastlib.migfra import FinalError, HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.domain.state import DomainState
from fastlib.migfra.hypervisors.libvirt.errors import LibvirtError
from fastlib.migfra.hypervisors.libvirt.migration import post_copy
from fastlib.migfra.hypervisors.libvirt.migration.arguments import MigrateArguments
from fastlib.migfra.hypervisors.libvirt.migration.option_checks import check_options
from fastlib.migfra.hypervisors.libvirt.migration.post_copy import PostCopyRecovery
from fastlib.migfra.hypervisors.libvirt.migration.post_copy_decision import StreamFacts, next_step
from fastlib.migfra.hypervisors.libvirt.migration.record import MigrationState
from fastlib.migfra.hypervisors.simulated import run_virtual
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.virt import combination_checks
from fastlib.migfra.virt.program_versions import HostVersions
from tests.support.libvirt.fake_domain import PAUSED, RUNNING, SHUT_OFF, FakeDomain
from tests.support.libvirt.fake_libvirt import FakeHosts
from tests.support.libvirt.orders import spec_of
from tests.support.virtual_time import run_bounded

SPEC = spec_of(migration_type="live", on_timeout="post-copy", timeout=1)
POST_COPY, FAILED = 12, 13
RUNS, RUNS_IN_FAILED = 10, 11
PAUSED_SOURCE = DomainState(known=True, active=True, paused=True, reason=POST_COPY)
FAILED_SOURCE = DomainState(known=True, active=True, paused=True, reason=FAILED)
RUNS_THERE = DomainState(known=True, active=True, running=True, reason=RUNS)
ENDED = DomainState(known=True)


ARRIVES_AT_SWITCH = DomainState(known=True, active=True, paused=True, reason=2, migrating=True)
LATER = StreamFacts(silence=6)
MUCH_LATER = StreamFacts(silence=600)


@pytest.mark.parametrize(
    ("source", "destination", "stream", "step"),
    [
        (None, RUNS_THERE, MUCH_LATER, "wait"),
        (None, None, MUCH_LATER, "wait"),
        (FAILED_SOURCE, None, MUCH_LATER, "wait"),
        (FAILED_SOURCE, RUNS_THERE, StreamFacts(silence=4), "wait"),
        (FAILED_SOURCE, RUNS_THERE, LATER, "resume"),
        (PAUSED_SOURCE, RUNS_THERE, LATER, "resume"),
        (FAILED_SOURCE, ENDED, MUCH_LATER, "lost"),
        (FAILED_SOURCE, DomainState(), StreamFacts(), "lost"),
        (
            FAILED_SOURCE,
            DomainState(known=True, active=True, running=True, reason=2),
            MUCH_LATER,
            "over",
        ),
        (ENDED, RUNS_THERE, MUCH_LATER, "over"),
        (DomainState(), None, StreamFacts(), "over"),
        (DomainState(known=True, active=True, running=True), None, MUCH_LATER, "over"),
        (DomainState(known=True, active=True, paused=True, reason=2), None, MUCH_LATER, "over"),
        (ARRIVES_AT_SWITCH, None, StreamFacts(), "wait"),
        (ARRIVES_AT_SWITCH, RUNS_THERE, MUCH_LATER, "wait"),
    ],
)
def test_next_step_follows_from_both_answers(source, destination, stream, step):
    assert next_step(source, destination, stream) == step


@pytest.mark.parametrize("is_refused", [False, True])
@pytest.mark.parametrize("silence", [0, 4.9, 5, 1000])
@pytest.mark.parametrize("source", [PAUSED_SOURCE, FAILED_SOURCE])
def test_silent_stream_is_resumed_unless_that_was_just_refused(source, silence, is_refused):
    step = next_step(source, RUNS_THERE, StreamFacts(silence=silence, is_refused=is_refused))
    assert step == ("resume" if silence >= 5 and not is_refused else "wait")


class Interrupted:
    """Hosts whose post-copy of vm1 is interrupted, and what is done about it."""

    def __init__(self, monkeypatch, **options):
        self.monkeypatch = monkeypatch
        self.hosts = FakeHosts(**options)
        self.domain = self.hosts.domain
        self.domain.state_now = [PAUSED, FAILED]
        self.domain.job = {"type": 2, "data_remaining": 900, "data_processed": 100,
                           "data_total": 1000}  # fmt: skip
        self.there = self.hosts.destination.add(FakeDomain())
        self.there.state_now = [RUNNING, RUNS_IN_FAILED]
        self.resumes = []
        self.fails = []
        """What the next tries to resume raise."""
        monkeypatch.setattr(post_copy, "run_migration", self.run_migration)

    async def run_migration(self, runtime, spec, arguments, scope, context, *, in_post_copy):
        assert in_post_copy
        self.resumes.append(arguments.flags)
        if self.fails:
            raise self.fails.pop(0)
        self.arrive()

    def arrive(self):
        self.domain.state_now = [SHUT_OFF, 4]
        self.there.state_now = [RUNNING, 2]

    async def recover(self, meanwhile=None):
        """Run the recovery to its end. `meanwhile` maps seconds to what happens then."""
        loop = post_copy.asyncio.get_running_loop()
        began = loop.time()
        for seconds, action in (meanwhile or {}).items():
            loop.call_later(seconds, action)
        context = self.hosts.context
        with CancelScope(context) as self.scope:
            recovery = PostCopyRecovery(
                self.hosts.runtime,
                SPEC,
                MigrationState(source="node01", destination="node02"),
                MigrateArguments(name="vm1", flags=1, parameters={}, destination_uri=None),
                self.scope,
                context,
            )
            await recovery.run()
        self.seconds = loop.time() - began
        return recovery


@pytest.fixture
def recover(monkeypatch):
    """Recover on fake hosts. Returns these and the recovery."""

    def recover(prepare=None, meanwhile=None, **options):
        interrupted = Interrupted(monkeypatch, **options)
        if prepare is not None:
            prepare(interrupted)

        async def main():
            actions = {
                at: lambda act=act: act(interrupted) for at, act in (meanwhile or {}).items()
            }
            return await interrupted.recover(actions)

        return interrupted, run_bounded(main())

    return recover


def test_quiet_stream_is_resumed_with_the_same_arguments(recover):
    interrupted, recovery = recover()
    assert interrupted.resumes == [1 | api().VIR_MIGRATE_POSTCOPY_RESUME]
    assert recovery.end == "its post-copy was interrupted, and then resumed"
    assert interrupted.hosts.phases == ["recover"]
    assert interrupted.hosts.progress[-1].vm_name == "vm1"


def test_stalled_stream_that_continues_is_not_interrupted(recover):
    def move(interrupted):
        job = interrupted.domain.job
        interrupted.domain.job = {**job, "data_remaining": job["data_remaining"] - 1}

    steps = dict.fromkeys(range(3, 60, 4), move) | {60: lambda interrupted: interrupted.arrive()}
    interrupted, recovery = recover(meanwhile=steps)
    assert interrupted.resumes == []
    assert recovery.end == "its post-copy was interrupted, and then continued"
    assert interrupted.hosts.calls == []
    assert 60 <= interrupted.seconds < 63


def test_it_waits_for_the_link_and_then_resumes(recover):
    def cut(interrupted):
        interrupted.hosts.destination.is_there = False

    def mend(interrupted):
        assert interrupted.resumes == []
        interrupted.hosts.destination.is_there = True

    interrupted, recovery = recover(cut, {300: mend})
    assert "resumed" in recovery.end
    assert 304 < interrupted.seconds < 310


def test_refused_resume_is_repeated_without_harm_to_the_stream(recover):
    def fail(interrupted):
        interrupted.fails = [HypervisorError("QEMU reports migration is still running")] * 3

    interrupted, recovery = recover(fail)
    assert len(interrupted.resumes) == 4
    assert 50 < interrupted.seconds < 60
    assert interrupted.hosts.calls == []
    assert recovery.end == "its post-copy was interrupted, and then resumed"


def test_stream_that_stays_whole_and_silent_is_given_up_at_last(recover):
    def fail(interrupted):
        interrupted.fails = [HypervisorError("QEMU reports migration is still running")] * 1000

    interrupted, recovery = recover(fail)
    assert interrupted.hosts.calls == []
    assert 1200 <= interrupted.seconds < 1202
    assert recovery.failure == (
        "its post-copy was interrupted, and nothing has moved for 1200 s; resume: QEMU reports "
        "migration is still running"
    )


def test_resume_that_fails_after_a_long_time_is_repeated(recover):
    """Memory has moved in that time, so `recover-timeout` begins anew."""

    def fail(interrupted):
        async def run_migration(*arguments, **options):
            if not interrupted.resumes:
                interrupted.fails = [HypervisorError("the link was cut again")]
                await post_copy.asyncio.sleep(1000)
                interrupted.domain.job["data_remaining"] -= 1
            await interrupted.run_migration(*arguments, **options)

        interrupted.monkeypatch.setattr(post_copy, "run_migration", run_migration)

    interrupted, recovery = recover(fail)
    assert len(interrupted.resumes) == 2
    assert "resumed" in recovery.end


def test_pages_that_are_sent_again_are_no_progress(recover):
    """QEMU counts pages as left to send again if the destination did not get them."""

    def swing(interrupted):
        rest = 900 if interrupted.domain.job["data_remaining"] == 901 else 901
        interrupted.domain.job["data_remaining"] = rest

    interrupted, _ = recover(meanwhile=dict.fromkeys(range(1, 1300), swing))
    assert 1200 <= interrupted.seconds < 1203


@pytest.mark.parametrize("reason", [1, 5])
def test_domain_that_is_not_in_post_copy_needs_no_recovery(recover, reason):
    def cancel(interrupted):
        interrupted.domain.state_now = [RUNNING, reason]

    interrupted, recovery = recover(cancel)
    assert not recovery.is_known
    assert interrupted.hosts.phases == []
    assert interrupted.seconds < 2


def test_switch_that_has_just_begun_is_awaited(recover):
    def switch(interrupted):
        interrupted.domain.state_now = [PAUSED, 2]

    def fail(interrupted):
        interrupted.domain.state_now = [PAUSED, FAILED]

    _, recovery = recover(switch, {10: fail})
    assert recovery.end == "its post-copy was interrupted, and then resumed"


@pytest.mark.parametrize(("options", "seconds"), [({}, 1200), ({"recover_timeout": 50}, 50)])
def test_wait_without_progress_has_an_end(recover, options, seconds):
    def cut(interrupted):
        interrupted.hosts.destination.is_there = False

    interrupted, _ = recover(cut, **options)
    assert interrupted.resumes == []
    assert seconds <= interrupted.seconds < seconds + 2


def test_unreachable_source_that_may_not_be_in_post_copy_is_awaited_shortly(recover):
    def cut(interrupted):
        interrupted.hosts.source.is_there = False

    interrupted, _ = recover(cut)
    assert 30 <= interrupted.seconds < 32


def test_domain_that_has_ended_at_the_destination_cannot_be_resumed(recover):
    def end(interrupted):
        interrupted.there.state_now = [SHUT_OFF, 6]

    interrupted, _ = recover(end)
    assert interrupted.resumes == []
    assert interrupted.seconds < 5


def test_cancelled_order_waits_only_while_memory_moves(recover):
    def cancel(interrupted):
        interrupted.hosts.cancellation.cancel()

    def move(interrupted):
        interrupted.domain.job["data_remaining"] -= 1

    steps = dict.fromkeys(range(2, 60, 2), move)
    interrupted, _ = recover(meanwhile=steps | {1: cancel, 60: lambda hosts: hosts.arrive()})
    assert (interrupted.resumes, 60 <= interrupted.seconds < 63) == ([], True)


def test_failure_of_the_partner_in_a_swap_does_not_end_the_recovery(recover):
    def cut(interrupted):
        interrupted.hosts.destination.is_there = False

    def give_up(interrupted):
        interrupted.scope.cancel("given up with its partner")

    def mend(interrupted):
        interrupted.hosts.destination.is_there = True

    _, recovery = recover(cut, {20: give_up, 100: mend})
    assert recovery.end == "its post-copy was interrupted, and then resumed"


def test_link_that_is_back_late_leaves_time_for_the_stream(recover):
    def cut(interrupted):
        interrupted.hosts.destination.is_there = False

    def mend(interrupted):
        interrupted.hosts.destination.is_there = True
        interrupted.fails = [HypervisorError("QEMU reports migration is still running")] * 1000

    _, recovery = recover(cut, {1199: mend, 1300: lambda interrupted: interrupted.arrive()})
    assert recovery.end == "its post-copy was interrupted, and then continued"


def test_cancelled_order_does_not_wait_for_the_link(recover):
    def cut(interrupted):
        interrupted.hosts.destination.is_there = False

    def cancel(interrupted):
        interrupted.hosts.cancellation.cancel()

    interrupted, _ = recover(cut, {20: cancel})
    assert 20 <= interrupted.seconds < 21


def test_libvirt_that_cannot_resume_lets_the_stream_continue_without_help(recover, monkeypatch):
    monkeypatch.delattr(api(), "VIR_MIGRATE_POSTCOPY_RESUME")
    interrupted, recovery = recover(meanwhile={300: lambda hosts: hosts.arrive()})
    assert (interrupted.resumes, interrupted.hosts.calls) == ([], [])
    assert recovery.end == "its post-copy was interrupted, and then continued"


@pytest.mark.parametrize(
    ("code", "how"),
    [("OPERATION_FAILED", "resumed"), ("OPERATION_INVALID", "continued")],
)
def test_error_of_an_earlier_failure_does_not_hide_that_it_was_resumed(recover, code, how):
    """libvirt 9.0 reports `job 'migration in' failed in post-copy phase`, and yet QEMU resumes."""

    def fail(interrupted):
        number = getattr(api(), f"VIR_ERR_{code}")
        interrupted.fails = [LibvirtError("job 'migration in' failed in post-copy phase", number)]

    _, recovery = recover(fail, {10: lambda interrupted: interrupted.arrive()})
    assert recovery.end == f"its post-copy was interrupted, and then {how}"


# Versions


@pytest.mark.parametrize(
    ("qemu", "libvirt", "words"),
    [
        ((7, 2), (9, 0), None),
        ((3, 0), (8, 5), None),
        ((2, 12), (9, 0), "needs QEMU 3.0 or newer on both hosts, but b has QEMU 2.12"),
        ((7, 2), (8, 4), "needs libvirt 8.5 or newer on both hosts, but b has libvirt 8.4"),
    ],
)
def test_versions_that_cannot_resume_are_named(qemu, libvirt, words):
    hosts = [
        HostVersions(host=name, kind="QEMU", hypervisor=qemu_, libvirt=libvirt_)
        for name, qemu_, libvirt_ in (("a", (9, 0), (10, 0)), ("b", qemu, libvirt))
    ]
    problem = combination_checks.problem_of_resume(hosts)
    if words is None:
        assert problem is None
    else:
        assert problem.startswith("resuming an interrupted on-timeout: post-copy ")
        assert words in problem


def test_post_copy_that_could_not_be_resumed_needs_the_consent_of_the_operator():
    hosts = FakeHosts()
    hosts.destination.libvirt_version = 8_004_000
    with pytest.raises(FinalError, match="set post-copy-without-recovery in the section"):
        run_virtual(check_options(hosts.runtime, SPEC, hosts.context))
    hosts = FakeHosts(post_copy_without_recovery=True)
    hosts.destination.libvirt_version = 8_004_000
    run_virtual(check_options(hosts.runtime, SPEC, hosts.context))
    run_virtual(check_options(FakeHosts().runtime, SPEC, hosts.context))
