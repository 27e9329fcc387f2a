"""Each broker of the matrix has exactly the abilities of the table in `docs/how-to/brokers.md`.

A cell is "yes", or "no: " and the behaviour of the broker. A wrong cell is a failure, in both
directions.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers.checks import CHECKS, Cannot, lab
from tests.support.brokers.kinds import KINDS, Kind, Place

PAGE = Path(__file__).parents[2] / "docs/how-to/brokers.md"


def table() -> dict[str, dict[str, str]]:
    """Return the cells of the table: for each check those of each broker."""
    lines = PAGE.read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("| check |"))
    rows = []
    for line in lines[begin:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    kinds = rows[0][1:]
    return {row[0]: dict(zip(kinds, row[1:], strict=True)) for row in rows[2:]}


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def place(
    kind: Kind, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Place]:
    with kind.running(tmp_path_factory.mktemp("broker"), request.config) as place:
        yield place


def test_table_has_all_brokers_and_checks() -> None:
    assert list(table()) == list(CHECKS)
    for row in table().values():
        assert list(row) == [kind.name for kind in KINDS]


@pytest.mark.load
@pytest.mark.parametrize("check", CHECKS)
def test_broker_passes_the_checks_of_its_table(
    check: str, kind: Kind, place: Place, tmp_path: Path
) -> None:
    name = f"{CHECKS[check].__name__.replace('_', '-')}"
    try:
        with lab(place, name, tmp_path) as found:
            CHECKS[check](found)
    except Cannot as error:
        said = f"no: {error}"
    else:
        said = "yes"
    assert said == table()[check][kind.name]
