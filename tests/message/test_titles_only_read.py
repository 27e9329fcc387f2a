"""Titles that schedulers and agents in use send, and that fast-lib and fastlib do not write."""

import pytest

import fastlib
from fastlib import Message, ResultContainer, ValidationError
from fastlib.cli import main
from fastlib.message import mmbwmon
from fastlib.message.agent import Init
from fastlib.message.describe import describe
from fastlib.schema import schema_of
from fastlib.testing import isolated_registry
from fastlib.testing.registered import is_titled

TITLED = [
    ("mmbwmon request", mmbwmon.Request(cores=[8]), "cores: [8]"),
    ("mmbwmon response", mmbwmon.Reply(cores=[8], result=0.5), "cores: [8]\nresult: 0.5"),
    ("mmbwmon response", mmbwmon.Reply(cores=[8], result=0.5), "cores: [8]\nresponse: 0.5"),
    ("mmbwmon stop", mmbwmon.Stop(cgroup="/a"), "cgroup: /a"),
    ("mmbwmon restart", mmbwmon.Restart(cgroup="/a"), "cgroup: /a"),
    ("mmbwmon ack", mmbwmon.Ack(), ""),
]


@pytest.mark.parametrize(("title", "message", "keys"), TITLED)
def test_type_is_found_by_a_title_that_is_only_read(title, message, keys):
    flow = ", ".join([f"task: {title}", *keys.split("\n")]).removesuffix(", ")
    for text in (
        f"task: {title}\n{keys}",
        f"---\ntask: '{title}'\n{keys}\n---",
        f"{keys}\ntask: {title}",
        f"{{{flow}}}",
    ):
        assert fastlib.load(text) == message
        report = fastlib.validate(text)
        assert report.message == message
        assert report.problems == ()
        assert type(message).from_yaml(text) == message
        assert fastlib.validate(text, type(message)).problems == ()


@pytest.mark.parametrize(("title", "message", "keys"), TITLED)
def test_title_that_is_only_read_is_not_written(title, message, keys):
    assert "task" not in message.emit()
    for style in ("block", "literal", "flow"):
        text = message.to_yaml(style=style)
        assert "task" not in text
        assert type(message).from_yaml(text) == message
    assert not is_titled(type(message))
    assert describe(type(message)).titles == (title,)
    assert not describe(type(message)).title_is_written
    assert "task" not in schema_of(type(message), "emit").get("properties", {})
    assert schema_of(type(message), "load")["properties"]["task"] == {"const": title}


def test_description_says_that_a_title_is_only_read(capsys):
    assert main(["describe", "mmbwmon request"]) == 0
    assert "title: 'task: mmbwmon request', read but never written" in capsys.readouterr().out
    assert describe(Init).title_is_written


def test_title_of_another_message_is_refused():
    with pytest.raises(ValidationError, match=r"expected 'mmbwmon restart'; got 'mmbwmon stop'"):
        mmbwmon.Restart.from_yaml("{task: mmbwmon stop, cgroup: a}")
    with pytest.raises(ValidationError, match=r"did you mean 'mmbwmon request'\?"):
        fastlib.load("{task: mmbwmon requests, cores: [8]}")


def test_key_result_beside_a_title_of_another_message_is_its_field():
    # A text with `result` alone is a container of results.
    text = "cores: [8]\nresult: 0.5\n"
    assert fastlib.load(f"{text}task: mmbwmon response") == mmbwmon.Reply(cores=[8], result=0.5)
    text = "result: vm started\nlist: []\ntask: stop vm\n"
    assert type(fastlib.load(text)) is ResultContainer
    assert type(fastlib.load("task: nobody\nresult: a\nlist: []")) is ResultContainer


def test_package_can_declare_a_title_that_is_only_read():
    with isolated_registry():

        class Ping(Message, task="ping", write_title=False):
            host: str

        assert fastlib.load("{task: ping, host: a}") == Ping(host="a")
        assert Ping(host="a").to_yaml() == "---\nhost: a\n---"
