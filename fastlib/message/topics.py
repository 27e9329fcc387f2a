"""Where messages travel: every topic, built from names and read back into them.

PROTOCOL.md section 1. A topic is a template such as `fast/migfra/{host}/task`; building one fills
the names in, a name left out becomes the wildcard `+` of a subscription.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from ..codec.errors import Problem, ValidationError


class Topic:
    """One kind of topic, such as `TASK` = `fast/migfra/{host}/task`."""

    __slots__ = ("_levels", "names", "template")

    def __init__(self, template: str) -> None:
        self.template: Final = template
        self._levels: Final = tuple(template.split("/"))
        self.names: Final = tuple(level[1:-1] for level in self._levels if level.startswith("{"))

    def __call__(self, *values: str, **named: str) -> str:
        """The topic with its names filled in, all of them.

        Raises ValidationError for a name that would leave its place in the topic.
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
        """The topic for a subscription: names that are not given are the wildcard `+`."""
        if not named.keys() <= set(self.names):
            raise self._misnamed()
        names = {name: check_name(value, name) for name, value in named.items()}
        return self._fill({name: names.get(name, "+") for name in self.names})

    def _fill(self, names: Mapping[str, str]) -> str:
        return "/".join(names[lv[1:-1]] if lv.startswith("{") else lv for lv in self._levels)

    def parse(self, topic: str) -> dict[str, str] | None:
        """The names in a topic, or None if it is no topic of this kind."""
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
    """The name, if it can be one level of a topic. Raises ValidationError."""
    expected = None
    if not isinstance(name, str):
        expected = "text"
    elif any(char in name for char in "/+#\0"):
        expected = "a name without '/', '+', '#' and NUL"
    elif not 1 <= len(name.encode("utf-8", "surrogatepass")) <= 1024:
        expected = "a name of 1 to 1024 bytes"
    elif re.search("[\ud800-\udfff]", name):
        expected = "a name without lone surrogates"
    if expected is not None:
        problem = Problem(
            code="name",
            message=f"expected {expected}, as it is one level of a topic; got {name!r:.60}",
            path=what,
        )
        raise ValidationError("topic", [problem])
    return name


def from_template(template: str) -> Topic:
    """A topic of a configured template with `<vm_name>`, `<hostname>` or a wildcard as a name.

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


TASK = Topic("fast/migfra/{host}/task")
RESULT = Topic("fast/migfra/{host}/result")
PROGRESS = Topic("fast/migfra/{host}/progress")
PRESENCE = Topic("fast/migfra/{host}/status")
PSCOM_REQUEST = Topic("fast/pscom/{vm}/any_proc/request")
PSCOM_RESPONSE = Topic("fast/pscom/{vm}/{process}/response")
AGENT_STATUS = Topic("fast/agent/{host}/status")
AGENT_TASK = Topic("fast/agent/{host}/task")
AGENT_INIT = Topic("fast/agent/{host}/task/init_agent")
AGENT_STOP_MONITORING = Topic("fast/agent/{host}/task/stop_monitoring")
MMBWMON_REQUEST = Topic("fast/agent/{host}/mmbwmon/request")
MMBWMON_RESPONSE = Topic("fast/agent/{host}/mmbwmon/response")
APPLICATION_STATUS = Topic("fast/application/{job}/status")
APPLICATION_KPIS = Topic("fast/application/{job}/KPIs")

ALL: Mapping[str, Topic] = {
    name: value for name, value in tuple(globals().items()) if isinstance(value, Topic)
}
"""Every kind of topic, by its name here."""


class Match(msgspec.Struct, frozen=True):
    """What a topic says."""

    kind: str
    """Name of the kind of topic, such as `TASK`."""
    names: dict[str, str]
    """The host, domain, process or job in it."""


def parse(topic: str) -> Match | None:
    """The kind of a topic and the names in it, or None if it is none of the protocol."""
    for kind, known in ALL.items():
        names = known.parse(topic)
        if names is not None:
            return Match(kind, names)
    return None
