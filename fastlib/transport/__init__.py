"""The transport: payloads of bytes on topics, by MQTT or within this process.

`connect` returns a `Communicator`, `connect_async` an `AsyncCommunicator`. The options choose the
broker: `MqttOptions`, or `MemoryOptions` with a `MemoryBroker`. The transport does not know the
message types.
"""

from .aio import AsyncCommunicator
from .communicator import Communicator
from .connect import connect, connect_async
from .delivery import Delivery
from .embedded.broker import EmbeddedBroker
from .embedded.mosquitto import MosquittoBroker
from .errors import (
    ClientIdTakenError,
    ClosedError,
    ConnectError,
    ExpiredError,
    ForkedError,
    ListenError,
    LoopError,
    MessageTooLargeError,
    MosquittoMissingError,
    OptionsError,
    QueueFullError,
    RefusedError,
    SubscriptionError,
    TopicError,
    TransportError,
    Undelivered,
    UndeliveredError,
    WaitTimeoutError,
)
from .filters import matches
from .link import Link
from .memory.broker import MemoryBroker
from .messages import InboundMessage, ReceivedMessage
from .opening import Opening
from .options import MemoryOptions, MqttOptions, TlsOptions, Will

__all__ = [
    "AsyncCommunicator",
    "ClientIdTakenError",
    "ClosedError",
    "Communicator",
    "ConnectError",
    "Delivery",
    "EmbeddedBroker",
    "ExpiredError",
    "ForkedError",
    "InboundMessage",
    "Link",
    "ListenError",
    "LoopError",
    "MemoryBroker",
    "MemoryOptions",
    "MessageTooLargeError",
    "MosquittoBroker",
    "MosquittoMissingError",
    "MqttOptions",
    "Opening",
    "OptionsError",
    "QueueFullError",
    "ReceivedMessage",
    "RefusedError",
    "SubscriptionError",
    "TlsOptions",
    "TopicError",
    "TransportError",
    "Undelivered",
    "UndeliveredError",
    "WaitTimeoutError",
    "Will",
    "connect",
    "connect_async",
    "matches",
]
