"""Make the result of one domain, for tasks with several results."""

from typing import Final

import msgspec

from fastlib.message import MigrationResult, Result, TimeMeasurement
from fastlib.migfra.errors import HypervisorError

LONGEST_DETAILS: Final = 10_000
"""Maximum characters of the details of a result."""


def sound(text: str) -> str:
    """Return a text of bounded length that a message can hold.

    Bytes that are not UTF-8 are escaped.
    """
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > LONGEST_DETAILS:
        text = f"{text[:LONGEST_DETAILS]}… ({len(text)} characters)"
    return text


def domain_result(
    name: str, outcome: str | BaseException | None, measurement: TimeMeasurement | None = None
) -> Result:
    """Make the result of one domain: an error, or a success with details or without.

    An outcome that is another exception than HypervisorError is raised: it is a defect of the
    hypervisor.
    """
    if isinstance(outcome, BaseException) and not isinstance(outcome, HypervisorError):
        raise outcome
    return Result(
        vm_name=name,
        status="error" if isinstance(outcome, HypervisorError) else "success",
        details=None if outcome is None else sound(str(outcome)),
        time_measurement=measurement.snapshot() if measurement else None,
    )


def migration_result(
    name: str,
    outcome: str | BaseException | None,
    measurement: TimeMeasurement | None = None,
    *,
    encrypted: bool | None,
) -> MigrationResult:
    """Make the result of one domain that was to migrate, like `domain_result`.

    `encrypted` says whether its memory was sent encrypted. It is left out after a failure.
    """
    result = domain_result(name, outcome, measurement)
    if result.status == "error":
        encrypted = None
    return MigrationResult(**msgspec.structs.asdict(result), encrypted=encrypted)
