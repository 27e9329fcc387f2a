"""Wait until a started domain answers on SSH."""

import asyncio
from typing import Final

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.plugin_api.cancel_scope import CancelScope

_PROBE_SECONDS: Final = 5.0
"""The limit of one attempt, in seconds."""
_PROBE_PAUSE: Final = 0.5


class NoAnswerError(HypervisorError):
    """The domain does not answer."""


async def probe(host: str, port: int, patience: float, scope: CancelScope) -> None:
    """Wait until an SSH server answers. Raises NoAnswerError after `patience` seconds."""
    last = "no answer"
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
        raise NoAnswerError(
            f"{host} port {port} has not answered on SSH for {patience:g} s "
            f"({last}); check the domain's console, or set probe-hostname, or "
            "probe-with-ssh: false"
        ) from None


async def _check_ssh_banner(host: str, port: int, scope: CancelScope) -> None:
    """Raise OSError or EOFError if no SSH server sends its banner."""
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
        # The answer must not contain the received text: it may be of another machine.
        raise OSError("another server than SSH answers")


async def _read_ssh_banner(host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        return await reader.readexactly(4)
    finally:
        writer.close()
