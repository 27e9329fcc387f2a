"""The task `start vm`: define, start, attach devices, and wait for SSH."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec

from fastlib.message import PciAddress, PciId, Start
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.connection.uris import check_host
from fastlib.migfra.hypervisors.libvirt.domain import control, devices
from fastlib.migfra.hypervisors.libvirt.domain.definition_xml import (
    Changes,
    with_changes,
    with_uuid,
)
from fastlib.migfra.hypervisors.libvirt.domain.device_xml import ivshmem_xml
from fastlib.migfra.hypervisors.libvirt.domain.state import find, look_up, read_xml
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.hypervisors.libvirt.whereabouts import ask_hosts
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.domain_xml import read_domain
from fastlib.migfra.virt.names import check_name

from .undo import Undo

CallUntilReachable = Callable[..., Awaitable[Any]]
"""Calls a function with this host's libvirt, also if that is away for a while."""
_PROBE_SECONDS: Final = 5.0
"""The limit of one attempt on SSH."""
_PROBE_PAUSE: Final = 0.5


class StartSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The domain to start."""

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
    def of(cls, task: Start) -> "StartSpec":
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


async def start(runtime: LibvirtRuntime, task: Start, context: Context) -> str | None:
    """Start a domain. Raises HypervisorError, and what it had begun is taken back."""
    spec = StartSpec.of(task)
    with CancelScope(context) as scope:
        async with runtime.exclusive(spec.name, task.driver, scope):
            context.progress("check", vm_name=spec.name)
            unreachable = await _refuse_active(runtime, spec.name, task.driver, context)
            undo = Undo(context)
            try:
                scope.check()
                await _start(runtime, task.driver, spec, undo, context)
                await _probe(runtime, spec.name, task, context, scope)
            except _NoAnswerError:
                raise
            except Exception as error:  # when the daemon ends, what has begun is the next run's
                problems = await undo.all()
                if problems and isinstance(error, HypervisorError):
                    raise type(error)(f"{error}; {'; '.join(problems)}") from error
                raise
    return unreachable


async def _refuse_active(
    runtime: LibvirtRuntime, name: str, driver: str | None, context: Context
) -> str | None:
    """Refuse a domain that may run already. Returns which hosts could not be asked, or None."""
    local = await runtime.local(driver)
    here = await local.call(look_up, name)
    if here.active:
        raise HypervisorError(
            f"{name} {here.phrase} on {runtime.host} already; stop it first"
            + (", or resume it" if here.paused else "")
        )
    unreachable = []
    for answer in await ask_hosts(runtime, name, sorted(set(runtime.options.nodes)), driver):
        host, error = answer.host, answer.error
        if answer.state is not None and answer.state.active:
            raise HypervisorError(f"{name} is active on {host} already; stop it there first")
        if error is not None and not runtime.options.ignore_unreachable_nodes:
            raise HypervisorError(
                f"{name} may run on {host} already, which cannot be asked: {error}; or set "
                "ignore-unreachable-nodes in the configuration"
            )
        if error is not None:
            context.log.warning("%s is started without having asked %s: %s", name, host, error)
            unreachable.append(host)
    if not unreachable:
        return None
    return f"{', '.join(unreachable)} could not be asked whether {name} runs there"


async def _start(
    runtime: LibvirtRuntime, driver: str | None, spec: StartSpec, undo: Undo, context: Context
) -> None:
    """Define and start it, with its devices."""
    local = await runtime.local(driver)
    call_until_reachable = partial(runtime.call_until_reachable, runtime.host, driver, None)
    context.progress("start", vm_name=spec.name)
    with context.measure("start"):
        xml: str | None = None
        if not spec.transient:
            await _define(local, call_until_reachable, spec, undo)
        else:
            assert spec.xml is not None
            before = await local.call(look_up, spec.name)
            xml = with_changes(spec.xml, spec.changes)
            if before.known:
                xml = with_uuid(xml, before.uuid)
        # Not before it is known that it is ours: another one may have come in between.
        run = await local.call(_create, spec.name, xml, spec.has_devices)
        undo.add("end the domain", partial(call_until_reachable, control.destroy, spec.name, run))
        if spec.has_devices:
            with context.measure("attach-devs"):
                await _attach(local, spec)
            await local.call(control.resume, spec.name)


async def _define(
    local: Connection, call_until_reachable: CallUntilReachable, spec: StartSpec, undo: Undo
) -> None:
    before = await local.call(_definition, spec.name)
    if spec.xml is None:
        if before is None:
            # libvirt's own words for it are those of every other call.
            await local.call(read_xml, spec.name)
            return
        xml = with_changes(before, spec.changes)
    else:
        xml = with_changes(spec.xml, spec.changes)
        if before is not None:
            xml = with_uuid(xml, (await local.call(look_up, spec.name)).uuid)
    if xml == before:
        return
    await local.call(_define_xml, spec.name, xml)
    if before is None:
        undo.add(
            "forget its definition", partial(call_until_reachable, control.undefine, spec.name)
        )
    else:
        undo.add(
            "restore its definition", partial(call_until_reachable, _define_xml, spec.name, before)
        )


def _definition(connection: Any, name: str) -> str | None:
    return None if find(connection, name) is None else read_xml(connection, name)


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


async def _attach(local: Connection, spec: StartSpec) -> None:
    for address in spec.pci_addresses:
        await local.call(devices.attach_address, spec.name, address)
    for kind in spec.pci_ids:
        await local.call(devices.attach_kind, spec.name, kind)
    if spec.ivshmem is not None:
        await local.call(devices.attach, spec.name, spec.ivshmem)


class _NoAnswerError(HypervisorError):
    """The domain runs, but does not answer."""


async def _probe(
    runtime: LibvirtRuntime, name: str, task: Start, context: Context, scope: CancelScope
) -> None:
    """Wait until the domain answers on SSH. Raises HypervisorError after `start-timeout`."""
    if task.probe_with_ssh is False:
        return
    host = check_host(task.probe_hostname or name).strip("[]")
    port, patience = runtime.options.probe_port, runtime.options.start_timeout
    context.progress("probe", vm_name=name)
    last = "no answer"
    with context.measure("probe"):
        try:
            async with asyncio.timeout(patience):
                while True:
                    try:
                        await _check_ssh_banner(host, port, scope)
                        return
                    except (OSError, EOFError) as error:
                        last = str(error) or type(error).__name__
                    await scope.sleep(_PROBE_PAUSE)
        except TimeoutError:
            raise _NoAnswerError(
                f"{name} runs, but {host} port {port} has not answered on SSH for {patience:g} s "
                f"({last}); look at the domain's console, or set probe-hostname, or "
                "probe-with-ssh: false"
            ) from None


async def _check_ssh_banner(host: str, port: int, scope: CancelScope) -> None:
    """Raise OSError or EOFError if there is no SSH server that greets."""
    greeting = asyncio.ensure_future(_read_ssh_banner(host, port))
    try:
        await scope.wait_any(_PROBE_SECONDS, greeting)
        scope.check()
        if not greeting.done():
            raise OSError("it does not answer")
        line = await greeting
    finally:
        greeting.cancel()
    if not line.startswith(b"SSH-"):
        raise OSError(f"it greets with {line[:20]!r}, which is not SSH")


async def _read_ssh_banner(host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return await reader.readexactly(4)
    finally:
        writer.close()
