"""Reconcile both hosts after a failed migration: find the domain, and repair unfinished steps.

While libvirt cleans up, `reconcile` waits. Then it repairs what libvirt left unfinished, such as a
domain that is paused on the source because its libvirt missed the end. So the domain runs on
exactly one host. `reconcile` never destroys a copy that may have run. At most it pauses such a
copy, and the result says so.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain.host_identity import check_same_host
from fastlib.migfra.hypervisors.libvirt.domain.state import (
    PAUSED_ARRIVING,
    PAUSED_BY_USER,
    PAUSED_FOR_MIGRATION,
    DomainState,
    look_up,
)
from fastlib.migfra.hypervisors.libvirt.runtime import POLL_SECONDS, LibvirtRuntime
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec

from . import cleanup
from .reconcile_decision import Action, Decision, MigrationFacts, Place, decide
from .record import MigrationState

PATIENCE_SECONDS: Final = 30.0
"""Seconds within which libvirt must clean up, and an unreachable host must return."""
_LONGEST_SECONDS: Final = 120.0
"""Seconds within which an aborted migration must end."""
_ANSWER_SECONDS: Final = 5.0
_LAST_POLLS: Final = 10
"""The most polls after the deadline, while actions are left to do."""


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """The place of a domain, and a sentence about it."""

    place: Place
    words: str
    """Part of a sentence, such as `vm1 runs on node01`."""
    note: str | None = None
    """A remark for the operator."""
    silent: Sequence[str] = ()
    """The hosts that could not be queried."""

    @property
    def whole(self) -> str:
        """The sentence with the remark."""
        return self.words if self.note is None else f"{self.words}; {self.note}"


async def reconcile(
    runtime: LibvirtRuntime,
    spec: MigrationSpec,
    state: MigrationState,
    context: Context,
    *,
    patience: float = PATIENCE_SECONDS,
    stayed: bool = False,
) -> Location:
    """Find the domain of a migration that has ended, and repair unfinished steps.

    `stayed`: the order was answered before, with the domain on its source.
    """
    facts = MigrationFacts(
        was_running=state.was_running,
        known_on_destination=state.known_on_destination,
        arrives_paused=state.arrives_paused or not state.was_running,
        stayed=stayed,
    )
    loop = asyncio.get_running_loop()
    began = loop.time()
    deadline = began + patience
    before: Action | None = None
    looks_left = _LAST_POLLS
    while True:
        source, destination = await asyncio.gather(
            ask(runtime, spec, state, spec.source), ask(runtime, spec, state, spec.destination)
        )
        now = loop.time()
        if source is not None and source.migrating and not source.divided:
            deadline = max(deadline, min(began + _LONGEST_SECONDS, now + patience))
        last = now >= deadline
        looks_left -= last
        decision = decide(source, destination, facts, last=last)
        if decision.final or looks_left <= 0:
            return _location(spec, decision, source, destination)
        # Act only on a state seen twice: the two hosts are not queried at the same moment.
        if decision.action is not None and decision.action == before:
            context.log.warning("%s: %s, as the migration left it so", spec.name, decision.action)
            try:
                await _act(runtime, spec, state, facts, decision.action)
            except HypervisorError as error:
                context.log.warning("%s", error)
        before = decision.action
        await asyncio.sleep(POLL_SECONDS)


async def ask(
    runtime: LibvirtRuntime, spec: MigrationSpec, state: MigrationState, host: str
) -> DomainState | None:
    """Return the state of a migration's domain on a host. None if the host cannot be queried."""
    try:
        async with asyncio.timeout(runtime.options.connect_timeout + _ANSWER_SECONDS):
            connection = await runtime.connections.get(host, spec.driver, spec.transport)
            expected = state.destination_identity if host == spec.destination else None
            if expected is not None:
                await connection.within(_ANSWER_SECONDS, check_same_host, expected)
            observed = await connection.within(_ANSWER_SECONDS, look_up, spec.name)
    except (HypervisorError, TimeoutError) as error:
        runtime.node.log.debug("cannot query %s for %s: %s", host, spec.name, error)
        return None
    if observed.known and state.uuid and observed.uuid != state.uuid:
        return DomainState()  # another domain with this name
    return observed


async def _act(
    runtime: LibvirtRuntime,
    spec: MigrationSpec,
    state: MigrationState,
    facts: MigrationFacts,
    action: Action,
) -> None:
    what, _, where = action.partition(" ")
    host = spec.source if where == "source" else spec.destination
    connection = await runtime.connections.get(host, spec.driver, spec.transport)
    if what == "resume":
        await connection.call(cleanup.resume_source, spec.name, state.uuid)
    elif what == "pause" and where == "source":
        await connection.call(cleanup.pause_source, spec.name, state.uuid)
    elif what == "pause":
        await connection.call(cleanup.pause_copy, spec.name, state.uuid)
    elif where == "source":
        await connection.call(cleanup.destroy_copy, spec.name, state.uuid, {PAUSED_FOR_MIGRATION})
    else:
        reasons = PAUSED_ARRIVING | ({PAUSED_BY_USER} if facts.arrives_paused else set())
        await connection.call(cleanup.destroy_copy, spec.name, state.uuid, reasons)


def _location(
    spec: MigrationSpec,
    decision: Decision,
    source: DomainState | None,
    destination: DomainState | None,
) -> Location:
    note = decision.note
    if note is not None:
        note = note.format(name=spec.name, source=spec.source, destination=spec.destination)
    # The last action had no effect, so nothing is certain.
    place = "unknown" if decision.action is not None else decision.place
    answers = ((spec.source, source), (spec.destination, destination))
    return Location(
        place=place,
        words=_words(spec, place, source, destination),
        note=note,
        silent=tuple(host for host, observed in answers if observed is None),
    )


def _words(
    spec: MigrationSpec, place: Place, source: DomainState | None, destination: DomainState | None
) -> str:
    name = spec.name
    if place == "source" and source is not None:
        return f"{name} {source.phrase} on {spec.source}"
    if place == "destination" and destination is not None:
        return f"{name} {destination.phrase} on {spec.destination}"
    if place == "nowhere":
        return f"{name} is active neither on {spec.source} nor on {spec.destination}"
    answers = [
        f"libvirt on {host} cannot be queried"
        if observed is None
        else f"it {observed.phrase} on {host}"
        for host, observed in ((spec.source, source), (spec.destination, destination))
    ]
    if place == "divided":
        return (
            f"the memory of {name} is divided between {spec.source} and {spec.destination}, as "
            "post-copy has not ended"
        )
    if place == "lost":
        return f"{name} is lost: {' and '.join(answers)}"
    if place == "both":
        return f"there are two of {name}: {' and '.join(answers)}"
    return f"it is not certain where {name} runs: {' and '.join(answers)}; check both hosts"
