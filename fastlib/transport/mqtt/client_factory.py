"""Build the paho client for a link from its options."""

from collections.abc import Callable
from typing import Final
from uuid import uuid4

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from fastlib.transport.credentials import check_credential, read_password_file
from fastlib.transport.errors import OptionsError
from fastlib.transport.options import MqttOptions
from fastlib.transport.packet_size import connect_size
from fastlib.transport.tls_files import tls_context

from .paho_client import PahoClient, largest_packet

RECEIVE_MAXIMUM: Final = 20
"""MQTT 5: the number of messages that the broker sends without an acknowledgement, if their size is
bounded."""


def random_client_id() -> str:
    """Return a client id that every broker accepts: at most 23 letters and digits (MQTT 3.1.1)."""
    return f"fastlib{uuid4().hex[:16]}"


def connect_size_of(options: MqttOptions) -> int:
    """Return the size of the CONNECT packet in bytes; with MQTT 5 it is some bytes too small."""
    will = None if options.will is None else (options.will.topic, len(options.will.payload))
    credentials = [text for text in (options.username, options.password) if text is not None]
    return connect_size(options.client_id or "", credentials, will, options.protocol == "5")


def make_client(
    options: MqttOptions,
    on_message: Callable[[paho.MQTTMessage], None],
    on_pubrel: Callable[[int], None],
) -> PahoClient:
    """Return a client that is ready to connect. Raises OptionsError for unusable files."""
    five = options.protocol == "5"
    client = PahoClient(
        on_message,
        on_pubrel,
        max_payload=options.max_payload,
        client_id=options.client_id or random_client_id(),
        clean_session=None if five else not options.persistent,
        protocol=paho.MQTTv5 if five else paho.MQTTv311,
        transport="tcp" if options.websocket_path is None else "websockets",
    )
    if options.username is not None:
        client.username_pw_set(options.username, _password(options))
    if options.websocket_path is not None:
        client.ws_set_options(path=options.websocket_path)
    if options.tls is not None:
        client.tls_set_context(tls_context(options.tls))
    size = connect_size_of(options)
    if options.largest_packet is not None and size > options.largest_packet:
        raise OptionsError(
            f"the CONNECT packet has {size} bytes, with the last will; the option `largest-packet` "
            f"allows {options.largest_packet}"
        )
    if options.will is not None:
        will = options.will
        client.will_set(will.topic, will.payload, min(will.qos, options.qos), will.retain)
    host, port = options.brokers[0]
    if five:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        if options.persistent:
            properties.SessionExpiryInterval = options.session_expiry
        if options.max_payload is not None:
            properties.MaximumPacketSize = largest_packet(options.max_payload)
            properties.ReceiveMaximum = RECEIVE_MAXIMUM
        client.connect_async(
            host,
            port,
            options.keep_alive,
            clean_start=not options.persistent,
            properties=properties,
        )
    else:
        client.connect_async(host, port, options.keep_alive)
    return client


def _password(options: MqttOptions) -> str | None:
    if options.password_file is None:
        return options.password
    password = read_password_file(options.password_file)
    check_credential("password", password)
    return password
