"""Resume a post-copy that was interrupted, once the hosts reach each other again.

The domain runs at the destination, and part of its memory is still at the source. So neither host
can go on alone. A cut link often only stalls the stream between the QEMUs: then it continues when
the link is back, although libvirt reports a failed post-copy. Only if it stays quiet, it is
interrupted in earnest and resumed.
"""

import asyncio
from typing import Any, Final

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.domain import job
from fastlib.migfra.hypervisors.libvirt.domain.state import DomainState
from fastlib.migfra.hypervisors.libvirt.errors import LibvirtError, LostError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .arguments import MigrateArguments, resuming
from .call import run_migration
from .post_copy_decision import Step, is_in_post_copy, next_step
from .reconcile import PATIENCE_SECONDS, ask
from .record import MigrationState

_POLL_SECONDS: Final = 0.5
_QUIET_SECONDS: Final = 5.0
"""Seconds without movement after which a stream that could flow does not continue by itself."""
_ANSWER_SECONDS: Final = 5.0


class PostCopyRecovery:
    """Brings an interrupted post-copy to its end."""

    def __init__(
        self,
        runtime: LibvirtRuntime,
        spec: MigrationSpec,
        state: MigrationState,
        arguments: MigrateArguments,
        scope: CancelScope,
        context: Context,
    ) -> None:
        """`arguments` are those of the call that began the migration."""
        self._runtime = runtime
        self._spec = spec
        self._state = state
        self._arguments = resuming(arguments)
        self._scope = scope
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._moved = self._quiet_since = self._loop.time()
        self._last: object = None
        self._is_known = False
        """Whether the source has said that it is in post-copy."""
        self.resumed = 0
        """How often it was resumed."""

    async def run(self) -> None:
        """Return when the post-copy has ended, cannot be resumed, or has not moved for too long.

        The time is `recover-timeout`. A cancelled task does not wait for the link. The caller must
        then `reconcile` both hosts.
        """
        spec = self._spec
        self._context.log.warning(
            "%s: its post-copy is interrupted; it is resumed when %s and %s reach each other",
            spec.name,
            spec.source,
            spec.destination,
        )
        before: Step = "wait"
        while not self._scope.cancelled:
            step = await self._look()
            if step in ("over", "lost") and step == before:
                return
            if step == "resume":
                await self._resume()
            elif self._loop.time() - self._moved >= self._patience:
                return
            before = step
            await self._scope.wait_any(_POLL_SECONDS)

    @property
    def _patience(self) -> float:
        """Seconds without movement after which it is given up."""
        return self._runtime.options.recover_timeout if self._is_known else PATIENCE_SECONDS

    async def _look(self) -> Step:
        """Query both hosts, report the progress, and decide."""
        spec = self._spec
        source, destination = await asyncio.gather(
            ask(self._runtime, spec, self._state, spec.source),
            ask(self._runtime, spec, self._state, spec.destination),
        )
        self._is_known = self._is_known or is_in_post_copy(source)
        await self._report(source)
        now = self._loop.time()
        if source is None or destination is None:
            self._quiet_since = now  # the time of the stream begins when the link is back
        return next_step(source, destination, is_quiet=now - self._quiet_since >= _QUIET_SECONDS)

    async def _report(self, source: DomainState | None) -> None:
        """Report the progress, and note whether the stream has moved."""
        facts: dict[str, Any] = {}
        if source is not None:
            try:
                connection = await self._source()
                facts = await connection.within(_ANSWER_SECONDS, job.statistics, self._spec.name)
            except HypervisorError as error:
                self._context.log.debug("%s", error)
        remaining, processed = facts.get("data_remaining"), facts.get("data_processed")
        if facts and (remaining, processed) != self._last:
            if self._last is not None:
                self._moved = self._quiet_since = self._loop.time()
            self._last = (remaining, processed)
        total = facts.get("data_total")
        self._context.progress(
            "recover",
            vm_name=self._spec.name,
            percent=100 * (1 - remaining / total) if total and remaining is not None else None,
            transferred=processed,
            total=total,
            remaining=remaining,
        )

    async def _source(self) -> Any:
        spec = self._spec
        return await self._runtime.connections.get(spec.source, spec.driver, spec.transport)

    async def _resume(self) -> None:
        """Try to resume it. On failure, interrupt the stream in earnest before the next try."""
        name = self._spec.name
        self.resumed += 1
        self._context.log.info("%s: resume its post-copy, try %d", name, self.resumed)
        try:
            await run_migration(
                self._runtime,
                self._spec,
                self._arguments,
                self._scope,
                self._context,
                in_post_copy=True,
            )
        except HypervisorError as error:
            self._context.log.warning("%s: its post-copy was not resumed: %s", name, error)
            await self._interrupt()
        self._quiet_since = self._loop.time()

    async def _interrupt(self) -> None:
        """Let both QEMUs give up the old stream. A stream that is stalled cannot be resumed."""
        try:
            connection = await self._source()
            await connection.within(_ANSWER_SECONDS, job.interrupt_post_copy, self._spec.name)
        except (LostError, LibvirtError) as error:
            # QEMU refuses that if the stream has broken already, as it should.
            self._context.log.info("%s: %s", self._spec.name, error)


def describe_recovery(recovery: "PostCopyRecovery | None", error: HypervisorError) -> str:
    """Return the details of a domain that has arrived after its post-copy was interrupted."""
    if recovery is None:
        return f"it has arrived despite this error: {error}"
    how = "resumed" if recovery.resumed else "continued"
    return f"its post-copy was interrupted, and has {how} (the error was: {error})"
