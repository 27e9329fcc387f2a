"""Results of single domains, for tasks that have several."""

from fastlib.message import Result, TimeMeasurement
from fastlib.migfra.errors import HypervisorError


def result_of(
    name: str, end: str | BaseException | None, measurement: TimeMeasurement | None = None
) -> Result:
    """The result of one domain: an error, or a success with what is worth telling.

    An error that was not to be expected is raised.
    """
    if isinstance(end, BaseException) and not isinstance(end, HypervisorError):
        raise end
    return Result(
        vm_name=name,
        status="error" if isinstance(end, HypervisorError) else "success",
        details=None if end is None else str(end),
        time_measurement=measurement.snapshot() if measurement else None,
    )
