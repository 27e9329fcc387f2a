"""Tests of the options for limits of the broker."""

import argparse

import pytest

from fastlib.cli.arguments.broker import add_broker_options, broker_arguments, mqtt_options
from fastlib.transport import OptionsError


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_broker_options(parser)
    return parser.parse_args(words)


def test_limits_of_the_broker_reach_the_connection() -> None:
    options = mqtt_options(parsed("--qos", "1", "--largest-packet", "131072"))
    assert (options.qos, options.largest_packet) == (1, 131_072)
    options = mqtt_options(parsed())
    assert (options.qos, options.largest_packet) == (2, None)


def test_other_commands_get_the_same_limits() -> None:
    words = ["--qos", "1", "--largest-packet", "131072"]
    assert broker_arguments(parsed(*words)) == words
    assert broker_arguments(parsed()) == []


def test_port_is_that_of_a_broker_without_one() -> None:
    assert mqtt_options(parsed("--port", "1884")).brokers == (("localhost", 1884),)
    options = mqtt_options(parsed("--broker", "mqtts://b", "--port", "1884"))
    assert options.brokers == (("b", 1884),)
    options = mqtt_options(parsed("--broker", "b1,b2:1885", "--port", "1884"))
    assert options.brokers == (("b1", 1884), ("b2", 1885))
    words = ["--broker", "b", "--port", "1884"]
    assert broker_arguments(parsed(*words)) == words


def test_two_ports_are_refused() -> None:
    with pytest.raises(OptionsError, match="the broker's URL has a port, so leave out --port"):
        mqtt_options(parsed("--broker", "b:1883", "--port", "1884"))


@pytest.mark.parametrize(
    "words",
    [("--qos", "3"), ("--largest-packet", "0"), ("--port", "0"), ("--port", "65536"),
     ("--port", "x")],
)  # fmt: skip
def test_limits_out_of_range_are_refused(
    words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed(*words)
    assert words[0] in capsys.readouterr().err
