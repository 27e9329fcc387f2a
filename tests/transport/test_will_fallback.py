"""Tests of the last will at brokers that do not take the whole one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fastlib.transport import Communicator, MqttOptions, OptionsError, Will, connect
from fastlib.transport.mqtt.will_fallback import WillFallback, WillForm
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.transport.connector import connect_error
from tests.support.transport.proxy import Proxy
from tests.support.waiting import wait_until

WHOLE = WillForm(1, True)


@pytest.fixture
def fallback() -> WillFallback:
    return WillFallback(WHOLE)


def tried(fallback: WillFallback, count: int) -> list[WillForm]:
    """The forms of some tries that end without an answer."""
    found = []
    for _ in range(count):
        found.append(fallback.form)
        fallback.ended_without_answer()
    return found


def test_weaker_wills_are_tried_in_turns_after_two_ends(fallback: WillFallback) -> None:
    weaker = [WillForm(1, False), WillForm(0, True), WillForm(0, False)]
    assert tried(fallback, 7) == [WHOLE, WHOLE, *weaker, WHOLE, weaker[0]]


def test_weaker_will_is_kept_once_the_whole_one_has_failed_again(fallback: WillFallback) -> None:
    tried(fallback, 2)
    weaker = fallback.form
    assert fallback.accepted()
    assert tried(fallback, 1) == [WHOLE]
    assert fallback.form == weaker
    assert not fallback.accepted()
    tried(fallback, 5)
    assert fallback.form == weaker


def test_broker_that_was_not_ready_keeps_the_whole_will(fallback: WillFallback) -> None:
    tried(fallback, 2)
    assert fallback.accepted()
    assert fallback.form == WHOLE
    assert not fallback.accepted()
    assert fallback.form == WHOLE


def test_full_will_is_requested_from_broker_that_was_away(fallback: WillFallback) -> None:
    tried(fallback, 2)
    fallback.unreachable()
    assert tried(fallback, 2) == [WHOLE, WHOLE]


def test_reason_code_names_the_remedy(fallback: WillFallback) -> None:
    assert fallback.refused(0x9A)
    assert fallback.form == WillForm(1, False)
    assert not fallback.refused(0x9A)
    assert fallback.refused(0x9B)
    assert fallback.form == WillForm(0, False)
    assert not fallback.refused(0x9B)
    assert not fallback.refused(0x87)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_broker_without_retained_messages_publishes_a_weaker_will(
    join: Callable[..., Communicator],
    tmp_path: Path,
    protocol: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = ("retain_available false", "max_qos 1")
    with Mosquitto(tmp_path / "broker", settings=settings) as broker, Proxy(broker.port) as proxy:
        watcher = join(broker.port)
        watcher.subscribe("will")
        will = Will(topic="will", payload=b"gone", qos=2, retain=True)
        one = join(proxy.port, will=will, protocol=protocol)
        wait_until(lambda: "the last will is weaker" in caplog.text, "the decision")
        wait_until(lambda: one.is_connected, "the connection")
        proxy.refusing = True
        proxy.cut()
        assert watcher.receive("will", timeout=PATIENCE).payload == b"gone"


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_will_above_the_limit_is_named(tmp_path: Path, protocol: str) -> None:
    """The broker ends the connection at once: the CONNECT packet is too large for it."""
    with Mosquitto(tmp_path / "broker", settings=("max_packet_size 2000",)) as broker:
        will = Will(topic="will", payload=b"x" * 3000)
        words = r"CONNECT packet has 30\d\d bytes.*last will"
        connect_error(words, port=broker.port, will=will, protocol=protocol)


def test_will_above_the_option_is_refused() -> None:
    options = MqttOptions(will=Will(topic="will", payload=b"x" * 3000), largest_packet=2000)
    with pytest.raises(OptionsError, match=r"CONNECT packet has 30\d\d bytes"):
        connect(options, timeout=1)
