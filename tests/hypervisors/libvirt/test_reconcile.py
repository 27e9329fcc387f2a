"""The reconciliation of both hosts after a failed migration: waiting, repairs, and the sentence.

The hosts are fakes (see fake_libvirt.py) and time is virtual.
"""

import asyncio

import pytest

from fastlib import Migrate, MigrateParameter
from fastlib.migfra.hypervisors.libvirt.migration import cleanup
from fastlib.migfra.hypervisors.libvirt.migration.reconcile import Location, reconcile
from fastlib.migfra.hypervisors.libvirt.migration.record import MigrationState
from fastlib.migfra.virt.migration_spec import MigrationSpec
from tests.support.libvirt.fake_domain import PAUSED, RUNNING, SHUT_OFF, UUID, FakeDomain, refusal
from tests.support.libvirt.fake_libvirt import FakeHosts
from tests.support.virtual_time import run_bounded

OTHER = "11111111-2222-3333-4444-555555555555"


class Reconciling(FakeHosts):
    """Two hosts after a migration of vm1 that failed."""

    def there(self, state, reason):
        """Put a copy on the destination."""
        return self.destination.add(FakeDomain("vm1", state, reason))

    async def reconcile(self, *, patience=30.0, vcpu_map=None, **state):
        task = Migrate(
            vm_name="vm1", destination="node02", parameter=MigrateParameter(vcpu_map=vcpu_map)
        )
        spec = MigrationSpec.from_task(task, "node01")
        state = MigrationState(**{"uuid": UUID, **state})
        self.began = asyncio.get_running_loop().time()
        found = await reconcile(self.runtime, spec, state, self.context, patience=patience)
        self.seconds = asyncio.get_running_loop().time() - self.began
        return found


@pytest.fixture
def run():
    """Run a scenario."""
    return lambda scenario: run_bounded(scenario(Reconciling()))


def test_location_joins_words_and_note():
    assert Location(place="source", words="vm1 runs on a").whole == "vm1 runs on a"
    assert Location(place="source", words="vm1 runs on a", note="look").whole == (
        "vm1 runs on a; look"
    )


@pytest.mark.parametrize(
    ("source", "destination", "place", "words", "note"),
    [
        ((RUNNING, 1), None, "source", "vm1 runs on node01", None),
        ((PAUSED, 1), None, "source", "vm1 is paused on node01", None),
        (None, (RUNNING, 2), "destination", "vm1 runs on node02", None),
        (None, (PAUSED, 1), "destination", "vm1 is paused on node02", None),
        (None, None, "nowhere", "vm1 is active neither on node01 nor on node02", None),
        (
            (PAUSED, 1), (RUNNING, 2), "destination", "vm1 runs on node02",
            "a copy that is paused on node01 ran there in the meantime and is stale; destroy it "
            "there once nothing of it is needed",
        ),
    ],
)  # fmt: skip
def test_reconcile_answers_at_once_when_it_is_certain(run, source, destination, place, words, note):
    async def scenario(hosts):
        del hosts.source.domains["vm1"]
        if source is not None:
            hosts.source.add(FakeDomain("vm1", *source))
        if destination is not None:
            hosts.there(*destination)
        assert await hosts.reconcile() == Location(place=place, words=words, note=note)
        assert (hosts.seconds, hosts.calls) == (0, [])

    run(scenario)


@pytest.mark.parametrize(
    ("source", "destination", "place", "words", "note"),
    [
        (
            (RUNNING, 1), (RUNNING, 2), "both",
            "there are two of vm1: it runs on node01 and it runs on node02",
            "node02 has a copy of it too; check there, and destroy the stale one",
        ),
        (
            (PAUSED, 12), (RUNNING, 11), "divided",
            "the memory of vm1 is divided between node01 and node02, as post-copy has not ended",
            "destroy neither, repair the link, and order the migration from node01 to "
            "node02 again with on-timeout: post-copy, which resumes it",
        ),
        (
            (SHUT_OFF, 3), (RUNNING, 11), "lost",
            "vm1 is lost: it is shut off on node01 and it runs on node02",
            "its copy on node01 has ended before post-copy had moved all memory; the copy on "
            "node02 lacks that memory and cannot continue: destroy it there, and start the domain "
            "again",
        ),
        (
            (PAUSED, 2), (SHUT_OFF, 1), "unknown",
            "it is not certain where vm1 runs: it is paused after a migration on node01 and it is "
            "shut off on node02; check both hosts",
            "it had arrived on node02 and has ended there; the paused copy on node01 is older, "
            "so it was not resumed",
        ),
    ],
)  # fmt: skip
def test_reconcile_waits_before_an_uncertain_answer(run, source, destination, place, words, note):
    async def scenario(hosts):
        hosts.domain.state_now = list(source)
        hosts.there(*destination)
        assert await hosts.reconcile() == Location(place=place, words=words, note=note)
        assert hosts.seconds == pytest.approx(30, abs=0.3)
        assert hosts.calls == []

    run(scenario)


def test_reconcile_waits_for_unreachable_hosts(run):
    async def scenario(hosts):
        hosts.source.is_there = hosts.destination.is_there = False
        found = await hosts.reconcile(patience=5)
        assert found == Location(
            place="unknown",
            words="it is not certain where vm1 runs: libvirt on node01 cannot be queried and "
            "libvirt on node02 cannot be queried; check both hosts",
            silent=("node01", "node02"),
        )
        assert hosts.seconds == pytest.approx(5, abs=0.3)

    run(scenario)


def test_reconcile_takes_a_better_answer_before_the_deadline(run):
    async def scenario(hosts):
        hosts.source.is_there = hosts.destination.is_there = False

        def back():
            hosts.source.is_there = hosts.destination.is_there = True

        asyncio.get_running_loop().call_later(29, back)
        assert (await hosts.reconcile()).whole == "vm1 runs on node01"
        assert hosts.seconds == pytest.approx(29, abs=0.3)

    run(scenario)


@pytest.mark.parametrize(("ends", "seconds"), [(80, 80), (1000, 120)])
def test_reconcile_waits_longer_while_the_source_migrates(run, ends, seconds):
    async def scenario(hosts):
        hosts.domain.job = {}

        def end():
            hosts.domain.job = None

        asyncio.get_running_loop().call_later(ends, end)
        found = await hosts.reconcile()
        assert hosts.seconds == pytest.approx(seconds, abs=0.3)
        if ends == seconds:
            assert found.whole == "vm1 runs on node01"
        else:
            assert found.place == "unknown"
            assert found.note == "its migration is still in progress"

    run(scenario)


@pytest.mark.parametrize(("reason", "seconds"), [(12, 120), (13, 30)])
def test_reconcile_does_not_wait_longer_for_a_broken_post_copy(run, reason, seconds):
    """libvirt keeps its job until an operator repairs it."""

    async def scenario(hosts):
        hosts.domain.job = {}
        hosts.domain.state_now = [PAUSED, reason]
        found = await hosts.reconcile()
        assert hosts.seconds == pytest.approx(seconds, abs=0.3)
        assert found.note == (
            "its copy on node02 has ended before post-copy had moved all memory; the paused copy "
            "on node01 lacks the newest memory and cannot continue: destroy it there, and start "
            "the domain again"
        )

    run(scenario)


def test_reconcile_resumes_source_after_two_equal_answers(run):
    async def scenario(hosts):
        hosts.domain.state_now = [PAUSED, 2]
        assert (await hosts.reconcile()).whole == "vm1 runs on node01"
        assert hosts.calls == ["node01: resume"]
        assert hosts.seconds == pytest.approx(0.4)

    run(scenario)


def test_reconcile_does_not_act_on_one_answer(run):
    async def scenario(hosts):
        hosts.domain.state_now = [PAUSED, 2]

        def resume():
            hosts.domain.state_now = [RUNNING, 1]

        asyncio.get_running_loop().call_later(0.1, resume)
        assert (await hosts.reconcile()).whole == "vm1 runs on node01"
        assert hosts.calls == []

    run(scenario)


def test_reconcile_keeps_domain_paused_that_was_paused(run):
    async def scenario(hosts):
        hosts.domain.state_now = [PAUSED, 2]
        found = await hosts.reconcile(was_running=False)
        assert found.whole == "vm1 is paused after a migration on node01"
        assert hosts.calls == []

    run(scenario)


def test_reconcile_resumes_source_when_destination_had_a_definition(run):
    async def scenario(hosts):
        hosts.domain.state_now = [PAUSED, 2]
        hosts.there(SHUT_OFF, 0)
        found = await hosts.reconcile(known_on_destination=True)
        assert found.whole == "vm1 runs on node01"
        assert hosts.calls == ["node01: resume"]

    run(scenario)


def test_reconcile_pauses_source_that_went_back(run):
    async def scenario(hosts):
        hosts.domain.state_now = [RUNNING, 6]
        hosts.there(RUNNING, 2)
        found = await hosts.reconcile()
        assert found.place == "destination"
        assert found.note.startswith("a copy that is paused on node01")
        assert hosts.calls == ["node01: suspend"]

    run(scenario)


def test_reconcile_destroys_source_copy_when_domain_arrived(run):
    async def scenario(hosts):
        hosts.domain.state_now = [PAUSED, 2]
        hosts.domain.persistent = False
        hosts.there(RUNNING, 2)
        assert (await hosts.reconcile()).whole == "vm1 runs on node02"
        assert hosts.calls == ["node01: destroy"]

    run(scenario)


@pytest.mark.parametrize(
    ("reason", "options"),
    [(2, {}), (11, {}), (1, {"arrives_paused": True}), (1, {"was_running": False})],
)
def test_reconcile_destroys_copy_that_never_ran_at_the_deadline(run, reason, options):
    async def scenario(hosts):
        copy = hosts.there(PAUSED, reason)
        copy.persistent = False
        copy.vcpu_ns = 0
        assert (await hosts.reconcile(**options)).whole == "vm1 runs on node01"
        assert hosts.calls == ["node02: destroy"]
        assert hosts.seconds == pytest.approx(30.4, abs=0.3)

    run(scenario)


@pytest.mark.parametrize(
    ("options", "place"), [({}, "both"), ({"arrives_paused": True}, "unknown")]
)
def test_reconcile_keeps_paused_copy_that_may_have_run(run, options, place):
    async def scenario(hosts):
        hosts.there(PAUSED, 1)  # with the time that its virtual CPUs have used
        assert (await hosts.reconcile(**options)).place == place
        assert hosts.calls == []

    run(scenario)


def test_reconcile_gives_up_after_ten_actions_without_effect(run):
    async def scenario(hosts):
        hosts.domain.state_now = [PAUSED, 2]
        hosts.domain.refuses["resume"] = refusal("OPERATION_FAILED", "it is broken")
        found = await hosts.reconcile(patience=0)
        assert found == Location(
            place="unknown",
            words="it is not certain where vm1 runs: it is paused after a migration on node01 and "
            "it is unknown on node02; check both hosts",
        )
        assert hosts.calls == ["node01: resume"] * 8
        assert hosts.seconds == pytest.approx(9 * 0.2)

    run(scenario)


@pytest.mark.parametrize("uuid", [UUID, OTHER, ""])
def test_reconcile_ignores_another_domain_of_the_name(run, uuid):
    async def scenario(hosts):
        hosts.there(RUNNING, 2).uuid = OTHER
        del hosts.source.domains["vm1"]
        found = await hosts.reconcile(uuid=uuid)
        assert found.place == ("nowhere" if uuid == UUID else "destination")

    run(scenario)


# Clean-up


def host_with(state, reason, **facts):
    hosts = FakeHosts()
    hosts.domain.state_now = [state, reason]
    for name, value in facts.items():
        setattr(hosts.domain, name, value)
    return hosts


@pytest.mark.parametrize(
    ("function", "arguments", "acts_on", "call"),
    [
        (cleanup.resume_source, (), (PAUSED, 2), "resume"),
        (cleanup.pause_source, (), (RUNNING, 6), "suspend"),
        (cleanup.destroy_copy, ({2, 11},), (PAUSED, 2), "destroy"),
    ],
)
def test_cleanup_acts_only_on_the_state_it_is_for(function, arguments, acts_on, call):
    for state in ((RUNNING, 1), (RUNNING, 6), (PAUSED, 1), (PAUSED, 2), (PAUSED, 12)):
        hosts = host_with(*state)
        function(hosts.source, "vm1", UUID, *arguments)
        assert hosts.calls == ([f"node01: {call}"] if state == acts_on else [])


@pytest.mark.parametrize(
    ("function", "arguments", "state"),
    [
        (cleanup.resume_source, (), (PAUSED, 2)),
        (cleanup.pause_source, (), (RUNNING, 6)),
        (cleanup.destroy_copy, ({2},), (PAUSED, 2)),
    ],
)
def test_cleanup_spares_other_and_missing_domains(function, arguments, state):
    hosts = host_with(*state)
    function(hosts.source, "vm1", OTHER, *arguments)
    function(hosts.source, "vm2", UUID, *arguments)
    assert hosts.calls == []
    function(hosts.source, "vm1", "", *arguments)
    assert len(hosts.calls) == 1


def test_resume_source_waits_for_the_end_of_the_job():
    hosts = host_with(PAUSED, 2, job={})
    cleanup.resume_source(hosts.source, "vm1", UUID)
    assert hosts.calls == []
