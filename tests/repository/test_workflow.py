"""The workflow of CI, the pre-commit hook and the documents name only commands that exist."""

import re
from pathlib import Path

import pytest
import yaml

from tools.__main__ import make_parser

ROOT = Path(__file__).parents[2]
WORKFLOW = yaml.load((ROOT / ".github/workflows/ci.yml").read_text(), yaml.BaseLoader)


def commands() -> list[str]:
    return [
        step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step
    ]


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_workflow_tests_every_supported_python() -> None:
    from tools.interpreters import VERSIONS

    for name in ("fast", "compiled"):
        assert WORKFLOW["jobs"][name]["strategy"]["matrix"]["python"] == list(VERSIONS)


def test_workflow_runs_every_slow_marker() -> None:
    from tests.conftest import SLOW_MARKERS

    jobs = [WORKFLOW["jobs"][name] for name in ("laboratory", "slow")]
    markers = [marker for job in jobs for marker in job["strategy"]["matrix"]["marker"]]
    assert markers == list(SLOW_MARKERS)


def test_every_job_has_a_time_limit() -> None:
    assert all("timeout-minutes" in job for job in WORKFLOW["jobs"].values())


AS_ROOT = 'sudo -E env "PATH=$PATH" '
"""Runs a command as root that finds the same programs. `sudo -E` alone keeps all but PATH."""


def test_commands_of_workflow_and_hook_exist() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    used = {command.removeprefix(AS_ROOT).split()[0] for command in commands()}
    used |= {hook["entry"].split()[0] for hook in hooks}
    assert used == {"tests/run", "./dev", "python", ".venv/bin/python", "apt-get"}


@pytest.mark.parametrize(
    "text",
    [
        *commands(),
        *(
            match[1]
            for path in documents()
            for match in re.finditer(r"(?:^|`)(\./dev [^`\n]*)", path.read_text(), re.MULTILINE)
        ),
    ],
)
def test_arguments_of_dev_are_known(text: str) -> None:
    """Parse each `./dev …` of the workflow and the documents."""
    words = text.removeprefix(AS_ROOT).split()
    if words[0] == "./dev" and words[1:] != ["--help"]:
        make_parser().parse_known_args(words[1:])
