"""The pscom processes in a domain: they suspend their connections while it migrates."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

from ....message.pscom import PscomRequest
from ....transport import AsyncCommunicator, TransportError, WaitTimeoutError
from ...context import Context
from ...errors import HypervisorError
from ...hypervisor import Node
from .stopping import Stopping

_MOST: Final = 100_000


def count_of(text: str | None, vcpus: int) -> int:
    """How many processes answer: a count, or `auto` for one a vCPU. Raises HypervisorError."""
    if text is None:
        return 0
    if text == "auto":
        return vcpus
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and int(text) <= _MOST):
        raise HypervisorError(f"pscom-hook-procs is a count or auto, not {text[:40]!r}")
    return int(text)


class Pscom:
    """The processes of one domain."""

    def __init__(self, node: Node, context: Context, name: str, count: int, seconds: float) -> None:
        self._node = node
        self._context = context
        self._name = name
        self._count = count
        self._seconds = seconds
        self._request = node.pscom_request.replace("<vm_name>", name)
        self._response = node.pscom_response.replace("<vm_name>", name)

    async def suspend(self, stopping: Stopping | None = None) -> None:
        """Have them suspend. Raises HypervisorError if not all of them answer in time."""
        await self._ask("suspend", stopping)

    async def resume(self) -> None:
        """Have them resume. Raises HypervisorError if not all of them answer in time."""
        await self._ask("resume", None)

    async def _ask(self, what: Literal["suspend", "resume"], stopping: Stopping | None) -> None:
        communicator = self._context.communicator
        answers = 0
        try:
            async with self._listening(communicator):
                payload = PscomRequest(request=what).to_yaml().encode()
                await communicator.send(payload, self._request, self._node.pscom_qos)
                async with asyncio.timeout(self._seconds):
                    while answers < self._count:
                        receiving = asyncio.ensure_future(communicator.receive(self._response))
                        try:
                            if stopping is not None:
                                await stopping.any_of(self._seconds, receiving)
                                stopping.check()
                            await receiving
                        finally:
                            receiving.cancel()
                        answers += 1
        except (TimeoutError, WaitTimeoutError):
            raise HypervisorError(
                f"{answers} of {self._count} pscom processes in {self._name} have answered to "
                f"{what} within {self._seconds:g} s; look whether they run, and at pscom-hook-procs"
            ) from None
        except TransportError as error:
            raise HypervisorError(
                f"the pscom processes in {self._name} cannot be asked to {what}: {error}"
            ) from error

    @asynccontextmanager
    async def _listening(self, communicator: AsyncCommunicator) -> AsyncIterator[None]:
        await communicator.subscribe(self._response, qos=self._node.pscom_qos)
        try:
            yield
        finally:
            await communicator.unsubscribe(self._response)
