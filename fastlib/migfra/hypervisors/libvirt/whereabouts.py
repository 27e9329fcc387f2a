"""Find out on which host a domain is, if it is not where a task expects it.

Another task, another daemon or an operator may have migrated it. So an answer names a host only
after the hosts were queried, and it names the hosts that could not be queried.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from fastlib.migfra.errors import HypervisorError

from .domain.host_identity import HostIdentity, compare_hosts, read_identity
from .domain.identity import read_namesakes
from .domain.state import SHUT_OFF_BY_MIGRATION, SHUT_OFF_BY_SAVING, DomainState, look_up
from .runtime import LibvirtRuntime

_ADVICE: Final = "check there"


class HostAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One host's answer about a domain, or the reason why it could not be queried."""

    host: str
    state: DomainState | None = None
    name_of_uuid: str | None = None
    """The name of its domain with the requested UUID."""
    identity: HostIdentity | None = None
    error: HypervisorError | None = None


async def ask_hosts(
    runtime: LibvirtRuntime,
    name: str,
    hosts: Iterable[str],
    driver: str | None,
    transport: str | None = None,
    uuid: str | None = None,
) -> list[HostAnswer]:
    """Query other hosts for a domain. Leaves out this host, and each host's further names.

    With `uuid` each answer also has the name of the domain with that UUID.
    """
    asked = [host for host in dict.fromkeys(hosts) if not runtime.connections.is_own(host)]
    if not asked:
        return []

    async def ask(host: str) -> HostAnswer:
        try:
            connection = await runtime.connections.get(host, driver, transport)
            identity = await connection.call(read_identity, host)
            found = await connection.call(read_namesakes, name, uuid)
        except HypervisorError as error:
            return HostAnswer(host=host, error=error)
        return HostAnswer(
            host=host, state=found.by_name, name_of_uuid=found.name_of_uuid, identity=identity
        )

    here = await (await runtime.local(driver)).call(read_identity, runtime.host)
    known = [here]
    answers = []
    for answer in await asyncio.gather(*map(ask, asked)):
        identity = answer.identity
        if identity is None and runtime.connections.is_own(answer.host, here.hostname):
            continue  # for example its FQDN: a host may not be reachable from itself by that
        if identity is not None:
            if any(compare_hosts(each, identity) == "same" for each in known):
                continue
            known.append(identity)
        answers.append(answer)
    return answers


class Whereabouts(msgspec.Struct, frozen=True, kw_only=True):
    """The hosts' answers about a domain that is not active here."""

    name: str
    host: str
    here: DomainState
    """This host's answer."""
    answers: Sequence[HostAnswer] = ()

    @property
    def elsewhere(self) -> str | None:
        """Where it is active, such as `it runs on node02`. None if no host has it active."""
        found = [
            f"it {answer.state.phrase} on {answer.host}"
            for answer in self.answers
            if answer.state is not None and answer.state.active
        ]
        return " and ".join(found) or None

    @property
    def sentence(self) -> str:
        """A sentence about the known place, with the hosts that could not be queried."""
        return "; ".join([self._known, *self._unknown])

    @property
    def _known(self) -> str:
        name, here = self.name, self.here
        if here.active:
            return f"{name} {here.phrase} on {self.host}"
        if self.elsewhere is not None:
            return f"{name} has left in the meantime: {self.elsewhere}"
        if here.known and here.reason != SHUT_OFF_BY_MIGRATION:
            how = "saved and " if here.reason == SHUT_OFF_BY_SAVING else ""
            return f"{name} has been {how}shut off in the meantime"
        gone = (
            f"{name} has migrated in the meantime"
            if here.known
            else f"{name} is no longer on {self.host}"
        )
        asked = [answer.host for answer in self.answers if answer.state is not None]
        if asked:
            return f"{gone}, and is not active on {' or '.join(asked)}"
        return f"{gone}; no other host could be queried for it"

    @property
    def _unknown(self) -> list[str]:
        if self.here.active or self.elsewhere is not None:
            return []
        return [
            f"it is not known whether it runs on {answer.host}, which cannot be queried: {_ADVICE}"
            for answer in self.answers
            if answer.error is not None
        ]


async def find_domain(
    runtime: LibvirtRuntime,
    name: str,
    driver: str | None,
    hosts: Iterable[str] = (),
    *,
    uuid: str = "",
    transport: str | None = None,
) -> Whereabouts:
    """Find a domain on this host, where this daemon moved it last, on `hosts`, and on `nodes`.

    With `uuid`, another domain with this name does not count. Raises HypervisorError if this host
    cannot be queried.
    """
    here = _only(await (await runtime.local(driver)).call(look_up, name), uuid)
    answers: list[HostAnswer] = []
    if not here.active:
        last = runtime.moved_to.get(name)
        wanted = [*([] if last is None else [last]), *hosts, *runtime.options.nodes]
        answers = [
            msgspec.structs.replace(
                answer, state=None if answer.state is None else _only(answer.state, uuid)
            )
            for answer in await ask_hosts(runtime, name, wanted, driver, transport)
        ]
    return Whereabouts(name=name, host=runtime.host, here=here, answers=answers)


async def refuse_if_elsewhere(
    runtime: LibvirtRuntime, name: str, driver: str | None, advice: str
) -> None:
    """Raise HypervisorError if a domain is active on another host instead of here.

    `advice` is the remedy on that host. Other hosts are queried for a domain that is shut off here
    only if a migration may be the reason.
    """
    here = await (await runtime.local(driver)).call(look_up, name)
    if here.active or (
        here.known and here.reason != SHUT_OFF_BY_MIGRATION and name not in runtime.moved_to
    ):
        return
    found = await find_domain(runtime, name, driver)
    if found.elsewhere is not None and not found.here.active:
        raise HypervisorError(
            f"{name} is not active on {runtime.host}: {found.elsewhere}; {advice} there"
        )


def _only(observed: DomainState, uuid: str) -> DomainState:
    return DomainState() if uuid and observed.uuid != uuid else observed
