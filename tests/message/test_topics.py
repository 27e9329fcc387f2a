"""Topics: built from names, and names read back out of them."""

import pytest

from fastlib import ValidationError
from fastlib.message import topics
from fastlib.message.topics import Match, Topic, check_name, from_template

# docs/reference/protocol.md, "Topics"
TOPICS = {
    "TASK": ({"host": "n1"}, "fast/migfra/n1/task", "fast/migfra/+/task"),
    "RESULT": ({"host": "n1"}, "fast/migfra/n1/result", "fast/migfra/+/result"),
    "PROGRESS": ({"host": "n1"}, "fast/migfra/n1/progress", "fast/migfra/+/progress"),
    "PRESENCE": ({"host": "n1"}, "fast/migfra/n1/status", "fast/migfra/+/status"),
    "PSCOM_REQUEST": (
        {"vm": "vm1"},
        "fast/pscom/vm1/any_proc/request",
        "fast/pscom/+/any_proc/request",
    ),
    "PSCOM_RESPONSE": (
        {"vm": "vm1", "process": "42"},
        "fast/pscom/vm1/42/response",
        "fast/pscom/+/+/response",
    ),
    "AGENT_STATUS": ({"host": "n1"}, "fast/agent/n1/status", "fast/agent/+/status"),
    "AGENT_TASK": ({"host": "n1"}, "fast/agent/n1/task", "fast/agent/+/task"),
    "AGENT_INIT": (
        {"host": "n1"},
        "fast/agent/n1/task/init_agent",
        "fast/agent/+/task/init_agent",
    ),
    "AGENT_STOP_MONITORING": (
        {"host": "n1"},
        "fast/agent/n1/task/stop_monitoring",
        "fast/agent/+/task/stop_monitoring",
    ),
    "MMBWMON_REQUEST": (
        {"host": "n1"},
        "fast/agent/n1/mmbwmon/request",
        "fast/agent/+/mmbwmon/request",
    ),
    "MMBWMON_RESPONSE": (
        {"host": "n1"},
        "fast/agent/n1/mmbwmon/response",
        "fast/agent/+/mmbwmon/response",
    ),
    "APPLICATION_STATUS": (
        {"job": "17"},
        "fast/application/17/status",
        "fast/application/+/status",
    ),
    "APPLICATION_KPIS": ({"job": "17"}, "fast/application/17/KPIs", "fast/application/+/KPIs"),
}


def test_every_topic_of_the_protocol_exists():
    assert list(topics.ALL) == list(TOPICS)
    assert all(getattr(topics, kind) is topic for kind, topic in topics.ALL.items())


@pytest.mark.parametrize("kind", TOPICS)
def test_topic_is_formatted_and_parsed(kind):
    names, text, pattern = TOPICS[kind]
    topic = topics.ALL[kind]
    assert topic(**names) == text
    assert topic(*names.values()) == text
    assert topic.pattern() == pattern
    assert topic.names == tuple(names)
    assert topic.parse(text) == names
    assert topics.parse(text) == Match(kind, names)
    # No other kind takes it for its own.
    assert [k for k, other in topics.ALL.items() if other.parse(text) is not None] == [kind]
    assert repr(topic) == f"Topic({topic.template!r})"


def test_pattern_may_fix_some_names():
    assert topics.PSCOM_RESPONSE.pattern(vm="vm1") == "fast/pscom/vm1/+/response"
    assert topics.PSCOM_RESPONSE.pattern(process="7") == "fast/pscom/+/7/response"
    assert topics.TASK.pattern(host="n1") == "fast/migfra/n1/task"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "fast",
        "fast/migfra/n1",
        "fast/migfra/n1/tasks",
        "fast/migfra/n1/task/",
        "/fast/migfra/n1/task",
        "fast/migfra//task",
        "fast/migfra/a/b/task",
        "fast/migfra/+/task",
        "fast/migfra/#",
        "fast/migfra/#/task",
        "Fast/migfra/n1/task",
        "fast/pscom/vm1/other_proc/request",
        "fast/pscom/vm1//response",
        "fast/agent/n1/task/other",
    ],
)
def test_parse_returns_none_for_other_topics(topic):
    assert topics.parse(topic) is None
    assert all(known.parse(topic) is None for known in topics.ALL.values())


@pytest.mark.parametrize("name", ["n1.cluster", "a b", "näme", "日本", "$a", "x" * 1024])
def test_unusual_names_are_read_and_written(name):
    assert topics.TASK.parse(topics.TASK(name)) == {"host": name}
    assert check_name(name, "host") == name


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "+", "#", "a+", "a#", "a\0", "x" * 1025, "ü" * 513, "../n1", "a\ud800",
     "a\tb", "a\n", "\x1b[2J", "a\x7f", "a\x85", "a\ufffe", "a\ufdd0", "\U0010ffff"],
)  # fmt: skip
def test_name_that_brokers_do_not_take_as_a_level_is_refused(name):
    for build in (
        lambda: topics.TASK(name),
        lambda: topics.TASK(host=name),
        lambda: topics.TASK.pattern(host=name),
        lambda: check_name(name, "host"),
    ):
        with pytest.raises(ValidationError) as caught:
            build()
        [problem] = caught.value.problems
        assert (problem.path, problem.code) == ("host", "name")
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", [None, 1, b"n1", ["n1"]])
def test_name_must_be_text(name):
    for build in (lambda: topics.TASK(name), lambda: topics.TASK.pattern(host=name)):
        with pytest.raises((TypeError, ValidationError)):
            build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: topics.TASK(),
        lambda: topics.TASK("a", "b"),
        lambda: topics.TASK(vm="a"),
        lambda: topics.TASK("a", vm="b"),
        lambda: topics.PSCOM_RESPONSE("a"),
        lambda: topics.PSCOM_RESPONSE(process="a"),
        lambda: topics.TASK.pattern(vm="a"),
    ],
)
def test_unknown_or_missing_name_is_a_type_error(build):
    with pytest.raises(TypeError):
        build()


def test_name_given_twice_is_an_error():
    with pytest.raises(TypeError):
        topics.TASK("a", host="b")


@pytest.mark.parametrize(
    ("template", "names", "topic"),
    [
        ("fast/pscom/<vm_name>/any_proc/request", {"vm": "a"}, "fast/pscom/a/any_proc/request"),
        (
            "fast/pscom/<vm_name>/+/response",
            {"vm": "a", "process": "7"},
            "fast/pscom/a/7/response",
        ),
        ("fast/migfra/<hostname>/task", {"host": "a"}, "fast/migfra/a/task"),
        ("site/<rack>/<hostname>/x", {"rack": "r", "host": "a"}, "site/r/a/x"),
        ("fast/fixed", {}, "fast/fixed"),
    ],
)
def test_configured_templates_are_read(template, names, topic):
    built = from_template(template)
    assert built.names == tuple(names)
    assert built(**names) == topic
    assert built.parse(topic) == names
    assert built.parse(f"{topic}/x") is None


def test_template_may_have_a_wildcard():
    built = from_template("fast/pscom/<vm_name>/+/response")
    assert built.pattern(vm="vm1") == "fast/pscom/vm1/+/response"


def test_packages_may_declare_topics():
    topic = Topic("site/{rack}/{host}")
    assert topic("r1", host="n1") == "site/r1/n1"
    assert topic.parse("site/r1/n1") == {"rack": "r1", "host": "n1"}
    assert Topic("site").parse("site") == {}
