"""`schemas/asyncapi.yaml`, judged by AsyncAPI's own parser, and rendered by its generator.

Both are npm packages (`tests/support/npm_packages.py`), the generator only for `--long`, as it
brings 400 MB.
"""

import json

import pytest
import yaml

from fastlib.message import topics
from tests.support.npm_packages import installed, needs_npm, node
from tests.support.schema.readers import SCHEMAS, names

DOCUMENT = SCHEMAS / "asyncapi.yaml"
WARNING = 1
"""The parser's severities: 0 is an error, 1 a warning; then follow hints."""


@pytest.mark.load
@needs_npm
def test_official_parser_accepts_document(pytestconfig):
    folder = installed(pytestconfig, "parser")
    answer = json.loads(node(folder, "check.mjs", DOCUMENT))
    grave = [problem for problem in answer["problems"] if problem["severity"] <= WARNING]
    assert not grave
    found = answer["found"]
    assert found["channels"] == [topic.template for topic in topics.ALL.values()]
    assert sorted(found["messages"]) == names()
    assert ["scheduler-sends-migfra-task", "send"] in found["operations"]
    assert ["migfra-receives-migfra-task", "receive"] in found["operations"]
    assert len(found["operations"]) == 2 * len(topics.ALL)


@pytest.mark.load
@needs_npm
def test_official_parser_finds_errors(pytestconfig, tmp_path):
    # That the test above can fail.
    tree = yaml.safe_load(DOCUMENT.read_text("utf-8"))
    tree["operations"]["scheduler-sends-migfra-task"]["action"] = "shout"
    broken = tmp_path / "broken.yaml"
    broken.write_text(yaml.safe_dump(tree))
    answer = json.loads(node(installed(pytestconfig, "parser"), "check.mjs", broken))
    assert any(problem["severity"] == 0 for problem in answer["problems"])


@pytest.mark.load
@needs_npm
def test_official_generator_renders_document(pytestconfig, tmp_path):
    if not pytestconfig.getoption("--long"):
        pytest.skip("the generator brings 400 MB of npm packages: tests/run --long renders HTML")
    folder = installed(pytestconfig, "html")
    node(folder, "render.mjs", DOCUMENT, tmp_path / "page")
    page = (tmp_path / "page" / "index.html").read_text("utf-8")
    assert "FaST cluster" in page
    for topic in topics.ALL.values():
        assert topic.template in page


def test_channels_list_their_messages():
    tree = yaml.safe_load(DOCUMENT.read_text("utf-8"))
    task = tree["channels"]["migfra-task"]
    assert task["address"] == "fast/migfra/{host}/task"
    assert set(task["messages"]) == {name for name in names() if name.endswith(".task")}
    assert set(tree["channels"]["agent-task"]["messages"]) == {
        "agent.InitAgent", "agent.StopMonitoring",
    }  # fmt: skip
    assert tree["channels"]["pscom-response"]["messages"] == {
        "any": {"description": "Any payload."}
    }
    for name, operation in tree["operations"].items():
        who, verb, channel = name.split("-", 2)
        assert operation["action"] == {"sends": "send", "receives": "receive"}[verb]
        assert operation["channel"]["$ref"] == f"#/channels/{channel}"
        assert operation["tags"] == [{"name": who}]
