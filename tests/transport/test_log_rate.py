"""Tests of the bound for how often something is logged."""

from fastlib.transport.log_rate import LogRate


def test_lines_are_allowed_at_once_and_then_one_each_period() -> None:
    now = [100.0]
    rate = LogRate(2, 10, lambda: now[0])
    assert [rate.take() for _ in range(4)] == [0, 0, None, None]
    now[0] += 9
    assert rate.take() is None
    now[0] += 1
    assert rate.take() == 3
    assert rate.take() is None


def test_a_quiet_time_allows_all_lines_again_and_no_more() -> None:
    now = [100.0]
    rate = LogRate(2, 10, lambda: now[0])
    assert [rate.take() for _ in range(3)] == [0, 0, None]
    now[0] += 1000
    assert [rate.take() for _ in range(3)] == [1, 0, None]
