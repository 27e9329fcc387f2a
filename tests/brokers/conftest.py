"""Skip the brokers that this machine does not have, and say so at the end of the run."""

import pytest

from tests.support import end_of_run
from tests.support.brokers.kinds import Kind


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        kind = getattr(item, "callspec", None) and item.callspec.params.get("kind")
        if not isinstance(kind, Kind):
            continue
        title = f"{kind.name} is not tested as a broker"
        if kind.is_slow and not config.getoption("--long"):
            end_of_run.skip([item], title, "it starts slowly; with --long")
        elif (how := kind.missing()) is not None:
            end_of_run.skip([item], title, f"it is not installed; {how}")
