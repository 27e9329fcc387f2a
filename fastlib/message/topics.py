"""Topics of messages: build them from names, and parse them.

See docs/reference/protocol.md, "Topics". A topic is a template such as `fast/migfra/{host}/task`.
Building a topic fills in the names. A missing name becomes the wildcard `+` of a subscription.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from fastlib.codec.errors import Problem, ValidationError
from fastlib.topic_characters import refused_character


class Topic:
    """One kind of topic, such as `TASK` = `fast/migfra/{host}/task`."""

    __slots__ = ("_levels", "doc", "names", "receiver", "sender", "template")

    def __init__(
        self, template: str, *, sender: str = "", receiver: str = "", doc: str = ""
    ) -> None:
        """`sender` and `receiver` name programs, such as scheduler and migfra; `doc` describes the
        topic. Descriptions of the protocol show them. The messages list their topics in
        `__topics__`.
        """
        self.template: Final = template
        self.sender: Final = sender
        self.receiver: Final = receiver
        self.doc: Final = doc
        self._levels: Final = tuple(template.split("/"))
        self.names: Final = tuple(level[1:-1] for level in self._levels if level.startswith("{"))

    def __call__(self, *values: str, **named: str) -> str:
        """Return the topic with all its names filled in.

        Raises ValidationError for a name that is not one level of a topic.
        """
        given = dict(zip(self.names, values, strict=False))
        if len(values) > len(self.names) or given.keys() & named.keys():
            raise self._misnamed()
        given.update(named)
        if given.keys() != set(self.names):
            raise self._misnamed()
        return self._fill({name: check_name(value, name) for name, value in given.items()})

    def _misnamed(self) -> TypeError:
        return TypeError(f"{self.template} takes {' and '.join(self.names) or 'no names'}")

    def pattern(self, **named: str) -> str:
        """Return the topic for a subscription: missing names are the wildcard `+`."""
        if not named.keys() <= set(self.names):
            raise self._misnamed()
        names = {name: check_name(value, name) for name, value in named.items()}
        return self._fill({name: names.get(name, "+") for name in self.names})

    def _fill(self, names: Mapping[str, str]) -> str:
        return "/".join(names[lv[1:-1]] if lv.startswith("{") else lv for lv in self._levels)

    def parse(self, topic: str) -> dict[str, str] | None:
        """Return the names in a topic, or None if it is not a topic of this kind."""
        levels = topic.split("/")
        if len(levels) != len(self._levels):
            return None
        names = {}
        for own, level in zip(self._levels, levels, strict=True):
            if own.startswith("{"):
                if not level or level in "+#":
                    return None
                names[own[1:-1]] = level
            elif own != level:
                return None
        return names

    def __repr__(self) -> str:
        return f"Topic({self.template!r})"


def check_name(name: str, what: str) -> str:
    """Return the name if it can be one level of a topic. Raises ValidationError."""
    expected = None
    if not isinstance(name, str):
        expected = "text"
    elif any(char in name for char in "/+#\0"):
        expected = "a name without '/', '+', '#' and NUL"
    elif not 1 <= len(name.encode("utf-8", "surrogatepass")) <= 1024:
        expected = "a name of 1 to 1024 bytes"
    elif re.search("[\ud800-\udfff]", name):
        expected = "a name without lone surrogates"
    elif refused := refused_character(name):
        expected = f"a name without the {refused}"
    if expected is not None:
        problem = Problem(
            code="name",
            message=f"expected {expected}, for one level of a topic; got {name!r:.60}",
            path=what,
        )
        raise ValidationError("topic", [problem])
    return name


def from_template(template: str) -> Topic:
    """Return a topic of a configured template with `<vm_name>`, `<hostname>` or a wildcard.

    The wildcard `+` becomes the name `process`, as in the pscom response topic.
    """
    known = {"<vm_name>": "vm", "<hostname>": "host"}
    levels = []
    for level in template.split("/"):
        if level.startswith("<") and level.endswith(">"):
            levels.append(f"{{{known.get(level, level[1:-1])}}}")
        else:
            levels.append("{process}" if level == "+" else level)
    return Topic("/".join(levels))


TASK = Topic(
    "fast/migfra/{host}/task",
    sender="scheduler",
    receiver="migfra",
    doc="Tasks for the migration daemon of a host.",
)
RESULT = Topic(
    "fast/migfra/{host}/result",
    sender="migfra",
    receiver="scheduler",
    doc="Results of the tasks of a host.",
)
PROGRESS = Topic(
    "fast/migfra/{host}/progress",
    sender="migfra",
    receiver="scheduler",
    doc="Progress of the tasks of a host.",
)
PRESENCE = Topic(
    "fast/migfra/{host}/status",
    sender="migfra",
    receiver="scheduler",
    doc="Presence of the daemon of a host; the broker retains the last one.",
)
PSCOM_REQUEST = Topic(
    "fast/pscom/{vm}/any_proc/request",
    sender="migfra",
    receiver="pscom",
    doc="Requests to the processes in a domain, about their connections.",
)
PSCOM_RESPONSE = Topic(
    "fast/pscom/{vm}/{process}/response",
    sender="pscom",
    receiver="migfra",
    doc="One message from each process that has done so, with any content.",
)
AGENT_STATUS = Topic(
    "fast/agent/{host}/status",
    sender="agent",
    receiver="scheduler",
    doc="Reports of the agent of a host about itself and its measurements.",
)
AGENT_TASK = Topic(
    "fast/agent/{host}/task",
    sender="scheduler",
    receiver="agent",
    doc="Requests to the agent of a host.",
)
AGENT_INIT = Topic(
    "fast/agent/{host}/task/init_agent",
    sender="scheduler",
    receiver="agent",
    doc="Requests for measurements to the agent of a host.",
)
AGENT_STOP_MONITORING = Topic(
    "fast/agent/{host}/task/stop_monitoring",
    sender="scheduler",
    receiver="agent",
    doc="Jobs whose measurement the agent of a host must end.",
)
MMBWMON_REQUEST = Topic(
    "fast/agent/{host}/mmbwmon/request",
    sender="scheduler",
    receiver="mmbwmon",
    doc="Requests to the bandwidth monitor of a host.",
)
MMBWMON_RESPONSE = Topic(
    "fast/agent/{host}/mmbwmon/response",
    sender="mmbwmon",
    receiver="scheduler",
    doc="Answers of the bandwidth monitor of a host.",
)
APPLICATION_STATUS = Topic(
    "fast/application/{job}/status",
    sender="application",
    receiver="scheduler",
    doc="Abilities of the application of a job.",
)
APPLICATION_KPIS = Topic(
    "fast/application/{job}/KPIs",
    sender="application",
    receiver="scheduler",
    doc="Values that the application of a job reports.",
)

ALL: Mapping[str, Topic] = {
    name: value for name, value in tuple(globals().items()) if isinstance(value, Topic)
}
"""Every kind of topic, by its name in this module."""


class Match(msgspec.Struct, frozen=True):
    """The kind of a topic and the name in it."""

    kind: str
    """Name of the kind of topic, such as `TASK`."""
    names: dict[str, str]
    """The host, domain, process or job in it."""


def parse(topic: str) -> Match | None:
    """Return the kind of a topic and the names in it, or None if the protocol does not have it."""
    for kind, known in ALL.items():
        names = known.parse(topic)
        if names is not None:
            return Match(kind, names)
    return None
