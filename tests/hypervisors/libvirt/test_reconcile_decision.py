"""The place of the domain after a failed migration, for every pair of answers of both hosts.

Each test compares whole decisions, with each word of their notes.
"""

import itertools

import pytest

from fastlib.migfra.hypervisors.libvirt.domain.state import DomainState
from fastlib.migfra.hypervisors.libvirt.migration.reconcile_decision import (
    WAIT,
    Decision,
    MigrationFacts,
    decide,
)


def active(state, reason=0, **facts):
    return DomainState(known=True, active=True, **{state: True}, reason=reason, **facts)


GONE = DomainState()
OFF = DomainState(known=True)
KILLED = DomainState(known=True, reason=3)
MOVED = DomainState(known=True, reason=4)
RUNS = active("running", 1)
AGAIN = active("running", 6)  # it was paused for the switch-over, and runs again
SENDS = active("running", 1, migrating=True)
HALF = active("paused", 2)  # it is paused since the switch-over
USER = active("paused", 1)
SPLIT = active("paused", 12)
BROKEN = active("paused", 13)
ARRIVES = active("paused", 2, migrating=True)
STARTS = active("paused", 11)
ARRIVED = active("running", 2)
FETCHES = active("running", 10, migrating=True)
TORN = active("running", 11)
FAULTY = active("paused", 5)  # by an error of its disk, so it has run
SLEEPS = active("paused", 0)
CRASHED = DomainState(known=True, active=True, state="crashed", reason=1)
STATES = {
    "none": None, "gone": GONE, "off": OFF, "killed": KILLED, "moved": MOVED, "runs": RUNS,
    "again": AGAIN, "sends": SENDS, "half": HALF, "user": USER, "split": SPLIT, "broken": BROKEN,
    "arrives": ARRIVES, "starts": STARTS, "arrived": ARRIVED, "fetches": FETCHES, "torn": TORN,
    "faulty": FAULTY, "sleeps": SLEEPS, "crashed": CRASHED,
}  # fmt: skip
IN_POST_COPY = (FETCHES, TORN)
WHOLE = (RUNS, AGAIN, SENDS, ARRIVED)
"""Running with all of its memory."""
NEVER_RAN = (HALF, ARRIVES, STARTS)
"""Paused on the destination for a reason of those that arrive."""

STALE_SOURCE = (
    "a copy that is paused on {source} ran there in the meantime and is stale; destroy it there "
    "once nothing of it is needed"
)
PERHAPS_THERE = (
    "it may also run on {destination}, which cannot be queried; once {destination} answers, the "
    "daemon pauses such a copy"
)
PERHAPS_PAUSED_THERE = (
    "a paused copy that has never run may be on {destination}, which cannot be queried; once "
    "{destination} answers, the daemon removes it"
)
STALE_DESTINATION = (
    "a copy that is paused on {destination} ran there for a time and is stale; destroy it there "
    "with virsh destroy {name} once nothing of it is needed"
)
IS_THERE = "it is active on {destination}, to which it may have migrated since"
HAS_LEFT = "{source} no longer knows it, so its images and its definition on {destination} stay"
COPY_THERE = "{destination} has a copy of it too; check there, and destroy the stale one"
COPY_HERE = "{source} cannot be queried for a copy of it; check there"
DIVIDED = (
    "destroy neither, repair the link, and order the migration from {source} to {destination} "
    "again with on-timeout: post-copy, which resumes it"
)
ENDED_THERE_IN_POST_COPY = (
    "its copy on {destination} has ended before post-copy had moved all memory; the paused copy on "
    "{source} lacks the newest memory and cannot continue: destroy it there, and start the domain "
    "again"
)
ENDED_HERE_IN_POST_COPY = (
    "its copy on {source} has ended before post-copy had moved all memory; the copy on "
    "{destination} lacks that memory and cannot continue: destroy it there, and start the domain "
    "again"
)
PERHAPS_ENDED_HERE = (
    "its copy on {source} has ended, and {destination} still waits for memory; if that does not "
    "change, the memory is lost: destroy it there, and start the domain again"
)
ENDED_THERE = (
    "it had arrived on {destination} and has ended there; the paused copy on {source} is older, "
    "so it was not resumed"
)
UNDER_WAY = "its migration is still in progress"
ARRIVING = "{destination} has begun to receive it, and does not end"


def wait_for(place, note=None):
    """Return a decision that waits for a better answer."""
    return WAIT, Decision(place, note=note)


def at_once(place, note=None):
    """The decision is final with the first answer."""
    return (Decision(place, note=note),) * 2


def do_at_once(place, action):
    """Return a decision with an action that does not wait."""
    return (Decision(place, final=False, action=action),) * 2


def do_at_last(place, action):
    """Return a decision with an action that waits until the deadline."""
    return WAIT, Decision(place, final=False, action=action)


def expected(source, destination, facts):
    """The decisions before and after the deadline, written down a second time as one table."""
    there = destination
    if source is None:
        if there is None or not there.running:
            return wait_for("unknown")
        return wait_for("divided", DIVIDED) if there in IN_POST_COPY else (
            wait_for("destination", COPY_HERE)
        )  # fmt: skip
    if source in (GONE, OFF, KILLED, MOVED):
        if there is None:
            return wait_for("unknown")
        if not there.active:
            return at_once("nowhere")
        if there in NEVER_RAN:
            return wait_for("unknown", ARRIVING)
        if there in IN_POST_COPY and source is KILLED:
            return wait_for("lost", ENDED_HERE_IN_POST_COPY)
        if there in IN_POST_COPY:
            return wait_for("unknown", PERHAPS_ENDED_HERE)
        return at_once("destination")
    if source in (SPLIT, BROKEN) and there is not None and not there.active:
        return wait_for("lost", ENDED_THERE_IN_POST_COPY)
    if source in (SPLIT, BROKEN):
        return wait_for(
            *(("destination", STALE_SOURCE) if there in WHOLE else ("divided", DIVIDED))
        )
    if source in (SENDS, ARRIVES, FETCHES):
        return wait_for("unknown", UNDER_WAY)
    if source is HALF:
        if there is None:
            return wait_for("unknown")
        if there in (OFF, KILLED, MOVED) and not facts.known_on_destination:
            return wait_for("unknown", ENDED_THERE)
        if not there.active:
            if facts.was_running:
                return do_at_once("source", "resume source")
            return at_once("source")
        if there in NEVER_RAN:
            return do_at_last("source", "end destination")
        if there in IN_POST_COPY:
            return wait_for("divided", DIVIDED)
        return do_at_once("destination", "end source")
    never_ran = there in NEVER_RAN or (there is USER and facts.arrives_paused)
    perhaps_there = PERHAPS_PAUSED_THERE if facts.arrives_paused else PERHAPS_THERE
    if source.running:
        if there is None:
            return wait_for("source", perhaps_there) if source is AGAIN else at_once("source")
        if not there.active:
            return at_once("source")
        if never_ran:
            return do_at_last("source", "end destination")
        if source is AGAIN and there.running:
            return do_at_once("destination", "pause source")
        return wait_for("both", COPY_THERE)
    if there is None:
        return wait_for("source", perhaps_there)
    if not there.active:
        return at_once("source")
    if never_ran:
        return do_at_last("source", "end destination")
    return at_once("destination", STALE_SOURCE) if there.running else wait_for("both", COPY_THERE)


FACTS = [
    MigrationFacts(was_running=running, known_on_destination=known, arrives_paused=paused)
    for running, known, paused in itertools.product((True, False), repeat=3)
]


@pytest.mark.parametrize("source", STATES)
def test_decision_for_each_pair_of_states_and_facts(source):
    for destination, facts in itertools.product(STATES, FACTS):
        now, at_last = expected(STATES[source], STATES[destination], facts)
        found = decide(STATES[source], STATES[destination], facts)
        assert found == now, (destination, facts)
        found = decide(STATES[source], STATES[destination], facts, last=True)
        assert found == at_last, (destination, facts)


@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize(
    ("sources", "destination", "decision"),
    [
        # Wait: one host is silent, or a migration is under way.
        ([None], RUNS, wait_for("unknown")),
        ([RUNS, AGAIN, OFF, GONE], None, wait_for("unknown")),
        ([SENDS, FETCHES], ARRIVES, wait_for("unknown")),
        ([HALF, SPLIT], ARRIVED, wait_for("unknown")),
        # There is no copy.
        ([RUNS, AGAIN, USER], GONE, at_once("source")),
        ([RUNS, AGAIN, USER], OFF, at_once("source")),
        ([OFF, KILLED, MOVED], OFF, at_once("nowhere")),
        ([OFF, KILLED, MOVED], GONE, at_once("nowhere")),
        ([GONE], OFF, at_once("nowhere", HAS_LEFT)),
        ([GONE], GONE, at_once("nowhere", HAS_LEFT)),
        # It has never run.
        ([RUNS, AGAIN, USER], STARTS, do_at_last("source", "end destination")),
        ([RUNS, AGAIN, USER], ARRIVES, do_at_last("source", "end destination")),
        ([OFF, KILLED, GONE], STARTS, do_at_last("nowhere", "end destination")),
        ([OFF, GONE], ARRIVES, wait_for("unknown", ARRIVING)),
        # It runs. The source had the domain when the order was answered.
        ([RUNS, AGAIN, USER], ARRIVED, do_at_once("source", "pause destination")),
        ([RUNS, AGAIN, USER], RUNS, do_at_once("source", "pause destination")),
        ([OFF, KILLED], ARRIVED, do_at_once("nowhere", "pause destination")),
        ([RUNS, AGAIN, USER], FAULTY, at_once("source", STALE_DESTINATION)),
        ([OFF, KILLED], FAULTY, at_once("nowhere", STALE_DESTINATION)),
        # It may have been started there, or migrated there, since.
        ([OFF, KILLED], RUNS, at_once("destination", IS_THERE)),
        ([MOVED, GONE], ARRIVED, at_once("destination", IS_THERE)),
        ([MOVED, GONE], FAULTY, at_once("destination", IS_THERE)),
    ],
)
def test_source_keeps_domain_once_the_order_was_answered(sources, destination, decision, paused):
    facts = MigrationFacts(arrives_paused=paused, stayed=True)
    for source in sources:
        now, at_last = decision
        assert decide(source, destination, facts) == now
        assert decide(source, destination, facts, last=True) == at_last


@pytest.mark.parametrize(
    ("paused", "decision"),
    [
        (True, do_at_last("source", "end destination")),
        (False, at_once("source", STALE_DESTINATION)),
    ],
)
def test_copy_that_arrives_paused_never_ran(paused, decision):
    facts = MigrationFacts(arrives_paused=paused, stayed=True)
    assert (decide(RUNS, USER, facts), decide(RUNS, USER, facts, last=True)) == decision


def test_decision_waits_by_default():
    assert Decision("unknown", final=False, action=None, note=None) == WAIT
    assert decide(None, None) == WAIT
    assert MigrationFacts() == MigrationFacts(
        was_running=True, known_on_destination=False, arrives_paused=False, stayed=False
    )


@pytest.mark.parametrize(
    ("source", "destination", "now", "at_last"),
    [
        # It never stopped on the source.
        (RUNS, GONE, "source", "source"),
        (RUNS, None, "source", "source"),
        (RUNS, OFF, "source", "source"),
        (RUNS, ARRIVES, "wait", "end destination"),
        (RUNS, STARTS, "wait", "end destination"),
        (RUNS, ARRIVED, "wait", "both"),
        (RUNS, FAULTY, "wait", "both"),
        # It had stopped there, so that it may have run on the destination.
        (AGAIN, GONE, "source", "source"),
        (AGAIN, OFF, "source", "source"),
        (AGAIN, None, "wait", "source, perhaps there"),
        (AGAIN, ARRIVES, "wait", "end destination"),
        (AGAIN, ARRIVED, "pause source", "pause source"),
        (AGAIN, FAULTY, "wait", "both"),
        # It is still moving.
        (SENDS, ARRIVES, "wait", "unknown"),
        (SENDS, ARRIVED, "wait", "unknown"),
        (SENDS, GONE, "wait", "unknown"),
        (SENDS, None, "wait", "unknown"),
        # The source has nothing of it.
        (GONE, ARRIVED, "destination", "destination"),
        (OFF, ARRIVED, "destination", "destination"),
        (GONE, USER, "destination", "destination"),
        (GONE, ARRIVES, "wait", "unknown"),
        (GONE, FETCHES, "wait", "unknown, perhaps ended here"),
        (GONE, TORN, "wait", "unknown, perhaps ended here"),
        (MOVED, TORN, "wait", "unknown, perhaps ended here"),
        (KILLED, FETCHES, "wait", "lost, ended here"),
        (KILLED, TORN, "wait", "lost, ended here"),
        (KILLED, ARRIVED, "destination", "destination"),
        (GONE, GONE, "nowhere", "nowhere"),
        (GONE, None, "wait", "unknown"),
        # The source cannot be asked.
        (None, ARRIVED, "wait", "destination, perhaps here"),
        (None, TORN, "wait", "divided, split"),
        (None, ARRIVES, "wait", "unknown"),
        (None, GONE, "wait", "unknown"),
        (None, None, "wait", "unknown"),
        # It stands still on the source since the switch-over.
        (HALF, ARRIVED, "end source", "end source"),
        (HALF, FAULTY, "end source", "end source"),
        (HALF, USER, "end source", "end source"),
        (HALF, FETCHES, "wait", "divided, split"),
        (HALF, GONE, "resume source", "resume source"),
        (HALF, OFF, "wait", "unknown, ended there"),
        (HALF, None, "wait", "unknown"),
        (HALF, ARRIVES, "wait", "end destination"),
        # It is paused for another reason.
        (USER, GONE, "source", "source"),
        (USER, None, "wait", "source, perhaps there"),
        (USER, ARRIVES, "wait", "end destination"),
        (USER, ARRIVED, "destination, stale here", "destination, stale here"),
        (USER, USER, "wait", "both"),
        # Post-copy.
        (SPLIT, ARRIVED, "wait", "destination, stale here"),
        (SPLIT, FETCHES, "wait", "divided, split"),
        (BROKEN, TORN, "wait", "divided, split"),
        (SPLIT, None, "wait", "divided, split"),
        (BROKEN, GONE, "wait", "lost, ended there in post-copy"),
        (BROKEN, KILLED, "wait", "lost, ended there in post-copy"),
    ],
)
def test_decision_by_table(source, destination, now, at_last):
    for last, expected in ((False, now), (True, at_last)):
        decision = decide(source, destination, last=last)
        outcome = decision.action or (decision.place if decision.final else "wait")
        what, _, note = expected.partition(", ")  # the note is one of NOTES
        assert outcome == what
        assert not (last and outcome == "wait")
        if note and decision.final:
            assert decision.note == NOTES[note]


NOTES = {
    "perhaps there": PERHAPS_THERE,
    "perhaps here": COPY_HERE,
    "stale here": STALE_SOURCE,
    "split": DIVIDED,
    "ended there": ENDED_THERE,
    "ended there in post-copy": ENDED_THERE_IN_POST_COPY,
    "ended here": ENDED_HERE_IN_POST_COPY,
    "perhaps ended here": PERHAPS_ENDED_HERE,
}


@pytest.mark.parametrize("source", STATES)
def test_no_action_destroys_a_copy_that_may_have_run(source):
    source = STATES[source]
    for destination, facts, last in itertools.product(STATES.values(), FACTS, (False, True)):
        action = decide(source, destination, facts, last=last).action
        if action == "end destination":
            assert destination.paused
            assert destination.reason in ({1, 2, 11} if facts.arrives_paused else {2, 11})
            assert source.active
            assert not source.migrating
        elif action == "end source":
            assert (source.paused, source.reason, source.migrating) == (True, 2, False)
            assert destination.active
        elif action == "resume source":
            assert (source.paused, source.reason, source.migrating) == (True, 2, False)
            assert not destination.active
        elif action == "pause source":
            assert source is AGAIN
            assert destination.running
        else:
            assert action is None


def test_domain_that_was_paused_is_not_resumed():
    decision = decide(HALF, GONE, MigrationFacts(was_running=False))
    assert (decision.action, decision.place) == (None, "source")


def test_copy_that_arrives_paused_is_destroyed():
    facts = MigrationFacts(arrives_paused=True)
    for source in (RUNS, AGAIN, USER):
        assert decide(source, USER, facts, last=True).action == "end destination"
        assert decide(source, USER, MigrationFacts(), last=True).action is None


def test_earlier_definition_on_destination_allows_resume():
    assert decide(HALF, OFF, MigrationFacts(known_on_destination=True)).action == "resume source"
