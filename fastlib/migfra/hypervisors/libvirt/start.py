"""Starting a domain: defined or described, with its devices, until it answers on SSH."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec

from fastlib.message import PciAddress, PciId, Start
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.domain_xml import read_domain
from fastlib.migfra.virt.names import check_name

from . import devices, domains
from .api import api
from .cancel_scope import Stopping
from .connections import Connection
from .description import Changes, changed, ivshmem_xml, with_uuid
from .site import Site
from .undo import Undo
from .uris import check_host

Insist = Callable[..., Awaitable[Any]]
"""Calls a function with this host's libvirt, also if that is away for a while."""
_PROBE_SECONDS: Final = 5.0
"""How long one try on SSH may take."""
_PROBE_PAUSE: Final = 0.5


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be started."""

    name: str
    xml: str | None
    transient: bool
    changes: Changes
    pci_ids: tuple[PciId, ...]
    pci_addresses: tuple[PciAddress, ...]
    ivshmem: str | None
    """XML of the device."""

    @property
    def has_devices(self) -> bool:
        """Whether something is to be attached before it runs."""
        return bool(self.pci_ids or self.pci_addresses or self.ivshmem)

    @classmethod
    def of(cls, task: Start) -> "Plan":
        """The plan of a task. Raises HypervisorError if the task makes no sense."""
        if task.xml is None:
            assert task.vm_name is not None
            name = check_name(task.vm_name)
        else:
            name = read_domain(task.xml).name
            if task.vm_name is not None and task.vm_name != name:
                raise HypervisorError(f"vm-name is {task.vm_name!r}, but the XML says {name!r}")
        for what, number in (("vcpus", task.vcpus), ("memory", task.memory)):
            if number == 0:
                raise HypervisorError(f"{what} is 0, with which no domain can be started")
        return cls(
            name=name,
            xml=task.xml,
            transient=bool(task.transient),
            changes=Changes(
                memory=task.memory,
                vcpus=task.vcpus,
                vcpu_map=task.vcpu_map,
                memnode_map=task.memnode_map,
            ),
            pci_ids=tuple(task.pci_ids or ()),
            pci_addresses=tuple(task.devs or ()),
            ivshmem=None if task.ivshmem is None else ivshmem_xml(task.ivshmem),
        )


async def start(site: Site, task: Start, context: Context) -> str | None:
    """Start a domain. Raises HypervisorError, and what it had begun is taken back."""
    plan = Plan.of(task)
    with Stopping(context) as stopping:
        async with site.alone(plan.name, task.driver, stopping):
            context.progress("check", vm_name=plan.name)
            unasked = await _refuse_running(site, plan.name, task.driver, context)
            undo = Undo(context)
            try:
                stopping.check()
                await _begin(site, task.driver, plan, undo, context)
                await _probe(site, plan.name, task, context, stopping)
            except _NoAnswerError:
                raise
            except Exception as error:  # when the daemon ends, what has begun is the next run's
                troubles = await undo.all()
                if troubles and isinstance(error, HypervisorError):
                    raise type(error)(f"{error}; {'; '.join(troubles)}") from error
                raise
    return unasked


async def _refuse_running(
    site: Site, name: str, driver: str | None, context: Context
) -> str | None:
    """Raises HypervisorError if the domain may run already. Which hosts could not be asked."""
    local = await site.local(driver)
    here = await local.call(domains.sight, name)
    if here.active:
        raise HypervisorError(
            f"{name} {here.words} on {site.host} already; stop it first"
            + (", or resume it" if here.paused else "")
        )
    others = sorted(set(site.options.nodes) - {site.host})

    async def ask(host: str) -> bool:
        connection = await site.connections.get(host, driver)
        return (await connection.call(domains.sight, name)).active

    answers = await asyncio.gather(*map(ask, others), return_exceptions=True)
    unasked = []
    for host, answer in zip(others, answers, strict=True):
        if answer is True:
            raise HypervisorError(f"{name} is active on {host} already; stop it there first")
        if isinstance(answer, HypervisorError) and not site.options.ignore_unreachable_nodes:
            raise HypervisorError(
                f"{name} may run on {host} already, which cannot be asked: {answer}; or set "
                "ignore-unreachable-nodes in the configuration"
            )
        if isinstance(answer, HypervisorError):
            context.log.warning("%s is started without having asked %s: %s", name, host, answer)
            unasked.append(host)
        elif isinstance(answer, BaseException):
            raise answer
    if not unasked:
        return None
    return f"{', '.join(unasked)} could not be asked whether {name} runs there"


async def _begin(site: Site, driver: str | None, plan: Plan, undo: Undo, context: Context) -> None:
    """Define and start it, with its devices."""
    local = await site.local(driver)
    insist = partial(site.insist, site.host, driver, None)
    context.progress("start", vm_name=plan.name)
    with context.measure("start"):
        xml: str | None = None
        if not plan.transient:
            await _define(local, insist, plan, undo)
        else:
            assert plan.xml is not None
            before = await local.call(domains.sight, plan.name)
            xml = changed(plan.xml, plan.changes)
            if before.known:
                xml = with_uuid(xml, before.uuid)
        # Not before it is known that it is ours: another one may have come in between.
        run = await local.call(_create, plan.name, xml, plan.has_devices)
        undo.add("end the domain", partial(insist, domains.destroy, plan.name, run))
        if plan.has_devices:
            with context.measure("attach-devs"):
                await _attach(local, plan)
            await local.call(domains.resume, plan.name)


async def _define(local: Connection, insist: Insist, plan: Plan, undo: Undo) -> None:
    before = await local.call(_definition, plan.name)
    if plan.xml is None:
        if before is None:
            # libvirt's own words for it are those of every other call.
            await local.call(domains.description, plan.name)
            return
        xml = changed(before, plan.changes)
    else:
        xml = changed(plan.xml, plan.changes)
        if before is not None:
            xml = with_uuid(xml, (await local.call(domains.sight, plan.name)).uuid)
    if xml == before:
        return
    await local.call(_define_xml, plan.name, xml)
    if before is None:
        undo.add("forget its definition", partial(insist, domains.undefine, plan.name))
    else:
        undo.add("restore its definition", partial(insist, _define_xml, plan.name, before))


def _definition(connection: Any, name: str) -> str | None:
    return None if domains.find(connection, name) is None else domains.description(connection, name)


def _define_xml(connection: Any, name: str, xml: str) -> None:
    connection.defineXML(xml)


def _create(connection: Any, name: str, xml: str | None, paused: bool) -> int:
    """Start it; the id that it has until it ends."""
    flags = api().VIR_DOMAIN_START_PAUSED if paused else 0
    if xml is not None:
        domain = connection.createXML(xml, flags)
    else:
        domain = connection.lookupByName(name)
        domain.createWithFlags(flags)
    return int(domain.ID())


async def _attach(local: Connection, plan: Plan) -> None:
    for address in plan.pci_addresses:
        await local.call(devices.attach_address, plan.name, address)
    for kind in plan.pci_ids:
        await local.call(devices.attach_kind, plan.name, kind)
    if plan.ivshmem is not None:
        await local.call(devices.attach, plan.name, plan.ivshmem)


class _NoAnswerError(HypervisorError):
    """The domain runs, but does not answer."""


async def _probe(site: Site, name: str, task: Start, context: Context, stopping: Stopping) -> None:
    """Wait until the domain answers on SSH. Raises HypervisorError after `start-timeout`."""
    if task.probe_with_ssh is False:
        return
    host = check_host(task.probe_hostname or name).strip("[]")
    port, patience = site.options.probe_port, site.options.start_timeout
    context.progress("probe", vm_name=name)
    last = "no answer"
    with context.measure("probe"):
        try:
            async with asyncio.timeout(patience):
                while True:
                    try:
                        await _greeted(host, port, stopping)
                        return
                    except (OSError, EOFError) as error:
                        last = str(error) or type(error).__name__
                    await stopping.sleep(_PROBE_PAUSE)
        except TimeoutError:
            raise _NoAnswerError(
                f"{name} runs, but {host} port {port} has not answered on SSH for {patience:g} s "
                f"({last}); look at the domain's console, or set probe-hostname, or "
                "probe-with-ssh: false"
            ) from None


async def _greeted(host: str, port: int, stopping: Stopping) -> None:
    """Raises OSError or EOFError if there is no SSH server that greets."""
    greeting = asyncio.ensure_future(_greeting(host, port))
    try:
        await stopping.any_of(_PROBE_SECONDS, greeting)
        stopping.check()
        if not greeting.done():
            raise OSError("it does not answer")
        line = await greeting
    finally:
        greeting.cancel()
    if not line.startswith(b"SSH-"):
        raise OSError(f"it greets with {line[:20]!r}, which is not SSH")


async def _greeting(host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return await reader.readexactly(4)
    finally:
        writer.close()
