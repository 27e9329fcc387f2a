"""Every scenario gives its golden log; see scenario.py for how to write it again."""

import pytest

from tests.support.migfra import scenario


@pytest.mark.parametrize("name", scenario.names())
def test_scenario_matches_its_log(name):
    log = scenario.log_of(name)
    assert "BROKEN" not in log
    assert "not everything was answered" not in log
    assert log == scenario.golden(name).read_text(encoding="utf-8")


def test_scenario_log_is_reproducible():
    assert scenario.log_of("failures") == scenario.log_of("failures")
