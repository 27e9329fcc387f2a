"""The pscom processes in a domain: they suspend their connections while it migrates."""

import asyncio
import subprocess
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

from fastlib.message.pscom import PscomRequest
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.virt.migration_spec import MigrationSpec
from fastlib.migfra.virt.probe_hosts import check_probe_host
from fastlib.transport import (
    AsyncCommunicator,
    ReceivedMessage,
    TransportError,
    WaitTimeoutError,
)

_MOST: Final = 100_000
_MOST_BYTES: Final = 1 << 16
"""Most bytes that are read from ssh, because the domain controls them."""


async def process_count(runtime: LibvirtRuntime, spec: MigrationSpec) -> int:
    """Return the number of processes that must answer. Raises HypervisorError."""
    text = spec.pscom_hook_procs
    if text is None or spec.kind == "offline":
        return 0
    if text == "auto":
        return await _count_by_ssh(runtime, spec.name)
    if not is_number(text):
        raise HypervisorError(f"pscom-hook-procs must be a count or auto, not {text[:40]!r}")
    return int(text)


def is_number(text: str) -> bool:
    """Return whether a text is a count."""
    return text.isascii() and text.isdigit() and len(text) <= 6 and int(text) <= _MOST


async def _count_by_ssh(runtime: LibvirtRuntime, name: str) -> int:
    """Count the processes of the domain by SSH.

    The output of the other side is written to the log only. The task's answer has none of it.
    """
    options, log = runtime.options, runtime.node.log
    seconds = options.pscom_timeout
    ssh_options = ("-o", "BatchMode=yes", "-o", f"ConnectTimeout={max(1, round(seconds))}")
    error_start = f"the pscom processes in {name} cannot be counted"
    try:
        host = check_probe_host(name, name, options.probe_hosts)
    except HypervisorError as error:
        raise HypervisorError(
            f"{error_start}: {error}; give their number instead of auto"
        ) from None
    try:
        ssh = await asyncio.create_subprocess_exec(
            *("ssh", *ssh_options, "--", host, options.pscom_count_command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    except FileNotFoundError:
        raise HypervisorError(f"{error_start}: there is no program ssh; install it") from None
    try:
        async with asyncio.timeout(seconds):
            output, errors = await asyncio.gather(_read(ssh, ssh.stdout), _read(ssh, ssh.stderr))
            await ssh.wait()
    except TimeoutError:
        raise HypervisorError(
            f"{error_start}: it has not answered on SSH for {seconds:g} s; give their number "
            "instead of auto"
        ) from None
    finally:
        if ssh.returncode is None:
            ssh.kill()
            # asyncio reports the end of the process only after its pipes were read to the end.
            await asyncio.gather(_read(ssh, ssh.stdout), _read(ssh, ssh.stderr), ssh.wait())
    if len(output) == _MOST_BYTES or len(errors) == _MOST_BYTES:
        raise HypervisorError(
            f"{error_start}: ssh {host} wrote {_MOST_BYTES} bytes or more; check "
            "pscom-count-command, or give their number instead of auto"
        )
    if ssh.returncode != 0:
        said = " ".join(errors.decode(errors="replace").split())[-200:]
        log.warning("%s: ssh %s wrote %r", error_start, host, said)
        raise HypervisorError(
            f"{error_start}: ssh {host} ended with status {ssh.returncode}; read the daemon's log "
            "and check pscom-count-command, or give their number instead of auto"
        )
    said = output.decode(errors="replace").strip()
    if not is_number(said):
        log.warning("%s: pscom-count-command on %s wrote %r", error_start, host, said[:200])
        raise HypervisorError(
            f"{error_start}: pscom-count-command must print a number; read its output in the "
            "daemon's log, or give their number instead of auto"
        )
    return int(said)


async def _read(process: Process, stream: asyncio.StreamReader | None) -> bytes:
    """Return the output of a process. Kill it if it writes too much."""
    assert stream is not None
    data = b""
    while more := await stream.read(_MOST_BYTES):
        data = (data + more)[:_MOST_BYTES]
        if len(data) == _MOST_BYTES and process.returncode is None:
            process.kill()
    return data


class Answers:
    """Counts the processes that have answered a request. No I/O."""

    def __init__(self, pattern: str) -> None:
        """Take the topic of the answers. A wildcard in `pattern` is the name of a process."""
        self._names_processes = not {"+", "#"}.isdisjoint(pattern.split("/"))
        self._topics: set[str] = set()
        self._unnamed = 0

    def add(self, message: ReceivedMessage) -> None:
        """Count a message, unless it is retained or its process has answered before.

        A retained message was published before the request. If the topic has no level for the
        process, each message counts as that of another process.
        """
        if message.retain:
            return
        if self._names_processes:
            self._topics.add(message.topic)
        else:
            self._unnamed += 1

    def __len__(self) -> int:
        return len(self._topics) + self._unnamed


class Pscom:
    """The processes of one domain."""

    def __init__(
        self, node: NodeContext, context: Context, name: str, count: int, seconds: float
    ) -> None:
        self._node = node
        self._context = context
        self._name = name
        self._count = count
        self._seconds = seconds
        self._request = node.pscom_request.replace("<vm_name>", name)
        self._response = node.pscom_response.replace("<vm_name>", name)

    async def suspend(self, scope: CancelScope | None = None) -> None:
        """Suspend the processes. Raises HypervisorError if not all of them answer in time."""
        await self._ask("suspend", scope)

    async def resume(self) -> None:
        """Resume the processes. Raises HypervisorError if not all of them answer in time."""
        await self._ask("resume", None)

    async def _ask(self, what: Literal["suspend", "resume"], scope: CancelScope | None) -> None:
        communicator = self._context.communicator
        answers = Answers(self._response)
        try:
            async with self._subscribed(communicator):
                payload = PscomRequest(request=what).to_yaml().encode()
                await communicator.send(payload, self._request, self._node.pscom_qos)
                async with asyncio.timeout(self._seconds):
                    while len(answers) < self._count:
                        receiving = asyncio.ensure_future(communicator.receive(self._response))
                        try:
                            if scope is not None:
                                await scope.wait_any(self._seconds, receiving)
                                scope.check()
                            answers.add(await receiving)
                        finally:
                            receiving.cancel()
        except (TimeoutError, WaitTimeoutError):
            raise HypervisorError(
                f"{len(answers)} of {self._count} pscom processes in {self._name} have answered "
                f"to {what} within {self._seconds:g} s; check that they run, and check "
                "pscom-hook-procs"
            ) from None
        except TransportError as error:
            raise HypervisorError(
                f"the request to {what} could not be sent to the pscom processes in "
                f"{self._name}: {error}"
            ) from error

    @asynccontextmanager
    async def _subscribed(self, communicator: AsyncCommunicator) -> AsyncIterator[None]:
        await communicator.subscribe(self._response, qos=self._node.pscom_qos)
        try:
            yield
        finally:
            await communicator.unsubscribe(self._response)
