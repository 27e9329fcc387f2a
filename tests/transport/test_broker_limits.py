"""Tests of the limits of a broker, read from its CONNACK."""

from typing import Any

import pytest

from fastlib.transport.mqtt.broker_limits import MAX_PACKET, BrokerLimits


def test_broker_of_mqtt_5_without_properties_has_no_limits() -> None:
    limits = BrokerLimits.of_connack({})
    assert limits == BrokerLimits(reported=True)
    assert limits.largest_packet == MAX_PACKET
    assert limits.missing() == ()


def test_broker_of_mqtt_3_1_1_reports_nothing() -> None:
    limits = BrokerLimits.of_connack(None)
    assert not limits.reported
    assert limits.maximum_packet is None
    assert limits.missing() == ()


def test_all_limits_are_read() -> None:
    limits = BrokerLimits.of_connack(
        {
            "MaximumPacketSize": 20_000,
            "MaximumQoS": 1,
            "RetainAvailable": 0,
            "WildcardSubscriptionAvailable": 0,
            "SharedSubscriptionAvailable": 0,
            "ReceiveMaximum": 7,
            "TopicAliasMaximum": 10,
        }
    )
    assert limits == BrokerLimits(
        reported=True,
        maximum_packet=20_000,
        packet_source="broker",
        maximum_qos=1,
        retain=False,
        wildcard_subscriptions=False,
        shared_subscriptions=False,
        receive_maximum=7,
    )
    said = " / ".join(limits.missing())
    assert "20000 bytes" in said
    assert "QoS 1 and may arrive twice" in said
    assert "no retained messages" in said
    assert "no wildcards" in said
    assert "no shared subscriptions" in said


@pytest.mark.parametrize(
    ("stated", "option", "expected", "source"),
    [
        (None, None, None, "MQTT"),
        (None, 500, 500, "option"),
        (1000, None, 1000, "broker"),
        (1000, 500, 500, "option"),
        (500, 1000, 500, "broker"),
        (500, 500, 500, "broker"),
    ],
)
def test_lower_limit_of_packet_counts(
    stated: int | None, option: int | None, expected: int | None, source: str
) -> None:
    properties = {} if stated is None else {"MaximumPacketSize": stated}
    limits = BrokerLimits.of_connack(properties, largest_packet=option)
    assert (limits.maximum_packet, limits.packet_source) == (expected, source)


@pytest.mark.parametrize(
    ("stated", "option", "expected"), [(1, 2, 1), (0, 2, 0), (1, 0, 0), (0, 1, 0), (1, 1, 1)]
)
def test_lower_qos_counts(stated: int, option: Any, expected: int) -> None:
    limits = BrokerLimits.of_connack({"MaximumQoS": stated}, qos=option)
    assert limits.maximum_qos == expected
    assert BrokerLimits.of_connack(None, qos=option).maximum_qos == option


def test_error_names_the_source_of_the_packet_limit() -> None:
    option = BrokerLimits.of_connack(None, largest_packet=500).missing()
    assert option == (
        "the option `largest-packet` allows packets of at most 500 bytes; larger messages are "
        "not sent",
    )
    inferred = BrokerLimits(maximum_packet=500, packet_source="inferred").missing()
    assert inferred[0].startswith("it seems to take packets of at most 500 bytes")


def test_broker_without_any_confirmation_says_that_messages_may_be_lost() -> None:
    (sentence,) = BrokerLimits(maximum_qos=0).missing()
    assert "may be lost" in sentence
