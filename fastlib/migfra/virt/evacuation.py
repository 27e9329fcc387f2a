"""Parts of an evacuation for all hypervisors: checks, the specs of its migrations, pauses."""

from collections.abc import Iterator
from typing import Final

from fastlib.message import Evacuate
from fastlib.message.tasks import EvacuateParameter
from fastlib.migfra.errors import FinalError

from .combination_checks import check_order
from .migration_spec import MigrationSpec

LONGEST_PAUSE_SECONDS: Final = 30.0


def check_evacuation(task: Evacuate, source: str) -> None:
    """Raise FinalError for an evacuation whose options exclude each other."""
    if task.parameter is not None and task.parameter.migration_type == "offline":
        raise FinalError("running domains do not migrate offline; choose live or warm")
    check_order(evacuation_spec(task, "", source, ""))


def evacuation_spec(task: Evacuate, name: str, source: str, destination: str) -> MigrationSpec:
    """Return the spec of one domain of an evacuation. Its placement has checked the memory."""
    parameter = task.parameter or EvacuateParameter()
    return MigrationSpec(
        name=name,
        source=source,
        destination=destination,
        parameter=parameter,
        driver=task.driver,
        pscom_hook_procs=parameter.pscom_hook_procs,
        check_room=False,
    )


def retry_pauses() -> Iterator[float]:
    """Yield the seconds before each retry of one domain: 1, 2, 4 and so on, at most 30."""
    pause = 1.0
    while True:
        yield pause
        pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)
