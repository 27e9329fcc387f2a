"""Resume a post-copy that was interrupted, once the hosts reach each other again.

The domain runs at the destination, and part of its memory is still at the source. So neither host
can continue alone. A cut link often only stalls the stream between the QEMUs. Then the stream
continues when the link is back, although libvirt reports a failed post-copy.

A stream that is whole is never interrupted. QEMU at the destination exits if it loses the stream
before the domain has run there. And if packets are lost, it does not notice that the source has
ended the stream. libvirt cannot end its wait, so then nothing can be resumed.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.api import api
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain import job
from fastlib.migfra.hypervisors.libvirt.errors import LibvirtError
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.cancel_scope import CancelScope
from fastlib.migfra.plugin_api.context import Context
from fastlib.migfra.virt.migration_spec import MigrationSpec

from .arguments import MigrateArguments, resuming
from .call import run_migration
from .post_copy_decision import Step, StreamFacts, is_in_post_copy, next_step
from .reconcile import PATIENCE_SECONDS, ask
from .record import MigrationState

_POLL_SECONDS: Final = 0.5
_ANSWER_SECONDS: Final = 5.0
_REFUSED_SECONDS: Final = 15.0
"""Seconds between a refused try to resume and the next one."""
_CANCELLED_SECONDS: Final = 10.0
"""Seconds without progress after which a cancelled task gives up."""

_LOOKS_AT_END: Final[Mapping[Step, int]] = {"over": 2, "lost": 10}
"""How often in succession an end must be seen. A libvirt that was restarted may know a domain
only after a while."""


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
        """None if libvirt cannot resume it. Then the stream can only continue without help."""
        self._scope = scope
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._advanced = self._silent_since = self._refused_at = self._loop.time()
        """`_advanced` is the time at which less memory than ever was left to move, or at which the
        hosts could be reached again."""
        self._are_apart = False
        self._is_refused = False
        self._least: float | None = None
        self._last: float | None = None
        self._is_resumed = False
        """Whether a call has resumed it, or may have done so."""
        self._refusal: HypervisorError | None = None
        """The error of the last try to resume it."""
        self.gave_up = False
        """Whether it has not moved for too long."""
        self.is_known = False
        """Whether the source has reported that it is in post-copy."""

    async def run(self) -> None:
        """Return when the post-copy has ended, cannot be resumed, or has not moved for too long.

        The time is `recover-timeout`. A cancelled task does not wait for the link. It returns soon
        if the domain is not in post-copy. The caller must then `reconcile` both hosts.
        """
        last: Step = "wait"
        repeated = 0
        while True:
            step = await self._look()
            repeated = repeated + 1 if step == last else 1
            last = step
            if repeated >= _LOOKS_AT_END.get(step, repeated + 1):
                return
            if step == "resume" and self._arguments is not None:
                await self._resume(self._arguments)
            if self._gives_up():
                self.gave_up = True
                return
            await asyncio.sleep(_POLL_SECONDS)

    def _gives_up(self) -> bool:
        """Return whether it has not moved for too long."""
        patience = self._runtime.options.recover_timeout if self.is_known else PATIENCE_SECONDS
        if self._context.cancelled:
            # The failure of the partner in a swap also cancels the scope, but it is no reason to
            # leave this domain divided.
            patience = min(patience, _CANCELLED_SECONDS)
        return self._loop.time() - self._advanced >= patience

    async def _look(self) -> Step:
        """Query both hosts, report the progress, and decide."""
        spec = self._spec
        source, destination = await asyncio.gather(
            ask(self._runtime, spec, self._state, spec.source),
            ask(self._runtime, spec, self._state, spec.destination),
        )
        if is_in_post_copy(source):
            self._begin()
        if self.is_known:
            await self._observe(is_reachable=source is not None)
        now = self._loop.time()
        if source is None or destination is None:
            self._are_apart = True
        elif self._are_apart:
            # The stream needs some time after the link is back.
            self._are_apart = False
            self._advanced = now
            self._hear()
        return next_step(
            source,
            destination,
            StreamFacts(
                silence=0.0 if self._are_apart else now - self._silent_since,
                is_refused=self._is_refused and now - self._refused_at < _REFUSED_SECONDS,
            ),
        )

    def _begin(self) -> None:
        if self.is_known:
            return
        self.is_known = True
        spec = self._spec
        self._context.log.warning(
            "%s: its post-copy is interrupted; it is resumed when %s and %s reach each other",
            spec.name,
            spec.source,
            spec.destination,
        )

    def _hear(self) -> None:
        """Note that the stream is not silent."""
        self._silent_since = self._loop.time()
        self._is_refused = False

    async def _observe(self, *, is_reachable: bool = True) -> None:
        """Report the progress, and note whether memory has moved."""
        facts: dict[str, Any] = {}
        if is_reachable:
            facts = await self._statistics()
        remaining, total = facts.get("data_remaining"), facts.get("data_total")
        if remaining is not None:
            if self._last is not None and remaining < self._last:
                self._hear()
            if self._least is None or remaining < self._least:
                if self._least is not None:
                    self._advanced = self._loop.time()
                self._least = remaining
            self._last = remaining
        self._context.progress(
            "recover",
            vm_name=self._spec.name,
            percent=100 * (1 - remaining / total) if total and remaining is not None else None,
            transferred=facts.get("data_processed"),
            total=total,
            remaining=remaining,
        )

    async def _statistics(self) -> dict[str, Any]:
        """Read the statistics of the job on the source. They are empty without an answer."""
        spec = self._spec
        try:
            async with asyncio.timeout(self._runtime.options.connect_timeout + _ANSWER_SECONDS):
                connection: Connection = await self._runtime.connections.get(
                    spec.source, spec.driver, spec.transport
                )
                return await connection.within(_ANSWER_SECONDS, job.statistics, spec.name)
        except (HypervisorError, TimeoutError) as error:
            self._context.log.debug("%s: %s", spec.source, error)
            return {}

    async def _resume(self, arguments: MigrateArguments) -> None:
        """Try to resume it. libvirt or QEMU refuses that if the stream is whole."""
        name = self._spec.name
        self._context.log.info("%s: resume its post-copy", name)
        try:
            await run_migration(
                self._runtime,
                self._spec,
                arguments,
                self._scope,
                self._context,
                in_post_copy=True,
            )
        except HypervisorError as error:
            self._context.log.warning("%s: its post-copy was not resumed: %s", name, error)
            self._is_refused, self._refused_at = True, self._loop.time()
            self._refusal = error
            # libvirt 9.0 sometimes reports the old failure although QEMU has resumed.
            code = error.code if isinstance(error, LibvirtError) else None
            self._is_resumed = self._is_resumed or code == api().VIR_ERR_OPERATION_FAILED
            await self._observe()  # the call may have moved memory before it failed
        else:
            self._is_resumed = True

    @property
    def end(self) -> str:
        """A sentence about the recovery of a domain that has arrived."""
        how = "resumed" if self._is_resumed else "continued"
        return f"its post-copy was interrupted, and then {how}"

    @property
    def failure(self) -> str:
        """A sentence about the recovery of a domain that has not arrived."""
        seconds = self._loop.time() - self._advanced
        words = f"its post-copy was interrupted, and nothing has moved for {seconds:.0f} s"
        return words if self._refusal is None else f"{words}; resume: {self._refusal}"


def with_recovery(error: HypervisorError, recovery: PostCopyRecovery | None) -> HypervisorError:
    """Return an error with a sentence about the recovery that failed after it."""
    return error if recovery is None else type(error)(f"{error}; {recovery.failure}")
