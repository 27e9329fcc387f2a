"""The result of one domain, for tasks that answer with several."""

from fastlib.message import Result, TimeMeasurement
from fastlib.migfra.errors import HypervisorError


def domain_result(
    name: str, outcome: str | BaseException | None, measurement: TimeMeasurement | None = None
) -> Result:
    """Make the result of one domain: an error, or a success with details or without.

    Raises an outcome that is an exception other than HypervisorError: that is a mistake in the
    hypervisor.
    """
    if isinstance(outcome, BaseException) and not isinstance(outcome, HypervisorError):
        raise outcome
    return Result(
        vm_name=name,
        status="error" if isinstance(outcome, HypervisorError) else "success",
        details=None if outcome is None else str(outcome),
        time_measurement=measurement.snapshot() if measurement else None,
    )
