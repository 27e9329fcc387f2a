"""`schemas/asyncapi.yaml`, judged by AsyncAPI's own parser, and rendered by its generator.

Both are npm packages. They are installed once into pytest's cache, at the versions that stand in
`npm/*/package.json`; the generator only for `--long`, as it brings 400 MB.
"""

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from fastlib.message import topics
from tests.support.schema.readers import SCHEMAS, names

DOCUMENT = SCHEMAS / "asyncapi.yaml"
NPM = Path(__file__).parent / "npm"
WARNING = 1
"""The parser's severities: 0 is an error, 1 a warning; then follow hints."""

needs_npm = pytest.mark.skipif(
    shutil.which("npm") is None or shutil.which("node") is None,
    reason="npm is missing, so AsyncAPI's own tools have not seen schemas/asyncapi.yaml; "
    "install node 20 or newer with npm",
)


def installed(config, name):
    """The folder of a program and of the packages that it needs."""
    source = NPM / name
    wanted = (source / "package.json").read_text()
    version = "-".join(json.loads(wanted)["dependencies"].values())
    folder = config.cache.mkdir(f"npm-{name}-{version}")
    done = folder / "installed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel workers share the folder
        if not done.exists():
            (folder / "package.json").write_text(wanted)
            subprocess.run(
                [
                    "npm",
                    "install",
                    "--no-audit",
                    "--no-fund",
                    "--loglevel=error",
                    "--ignore-scripts",
                ],
                cwd=folder,
                env={**os.environ, "PUPPETEER_SKIP_DOWNLOAD": "1"},
                check=True,
                timeout=900,
            )
            done.touch()
        for program in source.glob("*.mjs"):
            shutil.copy(program, folder)
    return folder


def node(folder, program, *arguments):
    done = subprocess.run(
        ["node", program, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
