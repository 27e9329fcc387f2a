"""The specification of the protocol agrees with the declarations."""

import re
from collections.abc import Iterator
from pathlib import Path

from fastlib import load
from fastlib.message import topics
from fastlib.message.task import declarations

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/protocol.md").read_text("utf-8")
SECTIONS = re.findall(r"^##+ (.*)$", PAGE, re.MULTILINE)


def rows(columns: str) -> Iterator[list[str]]:
    """The cells of the table with this head."""
    _, found, rest = PAGE.partition(f"| {columns} |\n")
    assert found, columns
    for line in rest.splitlines()[1:]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_page_has_every_task_with_its_layouts() -> None:
    listed = [
        tuple(cell.strip("`") for cell in row)
        for row in rows("`task` | `result` | members | results")
    ]
    declared = {
        (
            each.task,
            each.result,
            "inline" if each.layouts[0] == "inline" else each.key,
            each.result_layouts[0],
        )
        for each in declarations()
        if each.type.__module__.startswith("fastlib.")
    }
    assert set(listed) == declared
    assert {f"### {task}" for task, *_ in listed} <= {
        f"### {part}" for section in SECTIONS for part in section.split(" and ")
    }


def test_page_has_every_topic_with_sender_and_receiver() -> None:
    listed = {row[0].strip("`").replace("<", "{").replace(">", "}") for row in rows(
        "topic | from | to | payload"
    )}  # fmt: skip
    assert listed == {topic.template for topic in topics.ALL.values()}


def test_page_shows_messages_of_every_family() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    messages = [load(text) for text in blocks if not text.startswith("communicator:")]
    assert {type(message).__name__ for message in messages} >= {
        "TaskContainer",
        "ResultContainer",
        "InitAgent",
    }


def test_modules_cite_sections_that_exist() -> None:
    cited = [
        (path.name, section)
        for path in (ROOT / "fastlib").rglob("*.py")
        for section in re.findall(
            r'docs/reference/protocol\.md,\s+"([^"]+)"', path.read_text("utf-8")
        )
    ]
    assert len(cited) > 10
    assert [each for each in cited if each[1] not in SECTIONS] == []
    sources = (path.read_text("utf-8") for path in (ROOT / "fastlib").rglob("*.py"))
    assert not any("PROTOCOL.md" in text for text in sources)
