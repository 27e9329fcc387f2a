"""The rules of MQTT for topics, filters of subscriptions (3.1.1, section 4.7), and the QoS."""

from itertools import zip_longest
from typing import Any, Final

from fastlib.topic_characters import refused_character

from .errors import OptionsError, TopicError

SHARED: Final = "$share/"


def check_qos(qos: Any) -> None:
    """Check a quality of service. Raises OptionsError."""
    if isinstance(qos, bool) or not isinstance(qos, int) or qos not in (0, 1, 2):
        raise OptionsError(f"a quality of service must be 0, 1 or 2, not {qos!r}")


def _check(text: str) -> None:
    if not text:
        raise TopicError(text, "is empty")
    if refused := refused_character(text):
        raise TopicError(text, f"has the {refused}, at which brokers end the connection")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise TopicError(text, "has half a surrogate pair") from None
    if size > 65535:
        raise TopicError(text, f"is {size} bytes long, at most 65535 are allowed")


def check_topic(topic: str) -> str:
    """Return the topic if a message can be sent to it. Raises TopicError."""
    _check(topic)
    if "+" in topic or "#" in topic:
        raise TopicError(topic, "has a wildcard, so it is a filter and not a topic to send to")
    return topic


def check_filter(pattern: str) -> str:
    """Return the filter if it can be subscribed to. Raises TopicError."""
    _check(pattern)
    own = pattern
    if is_shared(pattern):
        group, _, own = pattern.removeprefix(SHARED).partition("/")
        if not group or not own or "+" in group or "#" in group:
            raise TopicError(pattern, "is not a shared subscription: $share/<group>/<filter>")
        if is_shared(own):
            raise TopicError(pattern, "is a shared subscription to a shared subscription")
    levels = own.split("/")
    for level in levels:
        if len(level) > 1 and ("+" in level or "#" in level):
            raise TopicError(pattern, "has a wildcard beside other characters of one level")
    if "#" in levels[:-1]:
        raise TopicError(pattern, "has `#` before the last level")
    return pattern


def is_shared(pattern: str) -> bool:
    """Return True for a shared subscription (MQTT 5, section 4.8.2; mosquitto has them in 3.1.1).

    The broker gives each message to one of the clients of its group.
    """
    return pattern.startswith(SHARED)


def own_filter(pattern: str) -> str:
    """Return the filter of a subscription, without the group of a shared one."""
    return pattern.removeprefix(SHARED).partition("/")[2] if is_shared(pattern) else pattern


def has_wildcard(pattern: str) -> bool:
    """Return True if a filter may match other topics than its own text."""
    return "+" in pattern or "#" in pattern


def matches(pattern: str, topic: str) -> bool:
    """Return True if a subscription to `pattern` gets the messages of `topic`."""
    if topic.startswith("$") and pattern[0] in "+#":
        return False
    levels = topic.split("/")
    own = pattern.split("/")
    for index, level in enumerate(own):
        if level == "#":
            return True
        if index >= len(levels) or (level != "+" and level != levels[index]):
            return False
    return len(own) == len(levels)


def overlap(one: str, other: str) -> bool:
    """Return True if there is a topic that both filters match."""
    if (one[0] == "$" and other[0] in "+#") or (other[0] == "$" and one[0] in "+#"):
        return False
    for a, b in zip_longest(one.split("/"), other.split("/")):
        if a == "#" or b == "#":
            return True
        if a is None or b is None or (a != b and a != "+" and b != "+"):
            return False
    return True


def join(one: str, other: str) -> str:
    """Return the narrowest filter that matches all topics of two overlapping filters."""
    levels: list[str] = []
    for a, b in zip_longest(one.split("/"), other.split("/")):
        if a == b:
            levels.append(a)
        elif a is None or b is None or "#" in (a, b):
            levels.append("#")
            break
        else:
            levels.append("+")
    return "/".join(levels)
