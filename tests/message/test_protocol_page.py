"""The specification of the protocol agrees with the declarations."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlib import load
from fastlib.message import topics
from fastlib.message.describe import describe, groups, message_types, name_of
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


PLACES = {
    "TaskContainer": "Task containers",
    "ResultContainer": "Results",
    "Task": "Keys of every member",
    "Start": "start vm",
    "Stop": "stop vm",
    "Suspend": "suspend vm and resume vm",
    "Resume": "suspend vm and resume vm",
    "Repin": "repin vm",
    "Migrate": "migrate vm",
    "MigrationOptions": "migrate vm",
    "MigrateParameter": "migrate vm",
    "SwapWith": "migrate vm",
    "Evacuate": "evacuate node",
    "EvacuateParameter": "evacuate node",
    "Quit": "quit",
    "Query": "query node",
    "NodeReport": "query node",
    "DomainReport": "query node",
    "TaskReport": "query node",
    "UnsettledReport": "query node",
    "NumaNodeReport": "query node",
    "HugePagesReport": "query node",
    "StoragePoolReport": "query node",
    "QueryHistory": "query history",
    "HistoryReport": "query history",
    "OrderReport": "query history",
    "OrderEvent": "query history",
    "Cancel": "cancel task",
    "PciId": "PCI devices",
    "PciAddress": "PCI devices",
    "DeviceIvshmem": "start vm",
    "NewDisk": "New disks",
    "Extension": "Task containers",
    "Result": "Results",
    "MigrationResult": "Results",
    "NodeResult": "query node",
    "HistoryResult": "query history",
    "Timing": "Time measurement",
    "node.Progress": "Progress and presence",
    "node.Presence": "Progress and presence",
    "pscom.PscomRequest": "Topics",
}
"""The section that specifies each type. Modules of messages have one: see `place_of`."""
FAMILIES = {
    "agent": "Agents and applications",
    "application": "Agents and applications",
    "mmbwmon": "Memory bandwidth monitor",
}
COMMON = "Keys of every member"


def place_of(name: str) -> str:
    return PLACES.get(name) or FAMILIES[name.partition(".")[0]]


def words_of(section: str) -> set[str]:
    """The words in the code of a section, its blocks included."""
    body = re.split(rf"^##+ {re.escape(section)}$", PAGE, flags=re.MULTILINE)[1]
    body = re.split(r"^##+ ", body, flags=re.MULTILINE)[0]
    blocks = re.findall(r"```\w*\n(.*?)```", body, re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", body, flags=re.DOTALL))
    return {word for code in (*blocks, *inline) for word in re.findall(r"[\w-]+", code)}


TYPES = [cls for cls in message_types() if cls.__module__.startswith("fastlib.")]


@pytest.mark.parametrize("name", [name_of(cls) for cls in TYPES])
def test_section_of_type_has_every_key(name: str) -> None:
    """The section must have each key with its type, its meaning, and the behaviour of peers."""
    message = describe(next(cls for cls in TYPES if name_of(cls) == name))
    known = words_of(place_of(name))
    if message.container is not None:
        known |= words_of(COMMON)
    if name.endswith("Result"):
        known |= words_of("Results")
    assert {field.key for field in message.fields} - known == set()


def test_page_has_every_title() -> None:
    titles = {
        title
        for group in groups()
        for message in group.messages
        for title in message.titles
        if message.name in map(name_of, TYPES)
    }
    assert {
        title for title in titles if f"`{title}`" not in PAGE and f": {title}`" not in PAGE
    } == (set())


def test_every_value_of_a_choice_is_on_the_page() -> None:
    for cls in TYPES:
        for field in describe(cls).fields:
            for value in field.values:
                assert f"`{value}`" in PAGE, f"{name_of(cls)}.{field.key}: {value}"


GLOSSARY = [
    "FaST", "pscom", "ponci", "mmbwmon", "ivshmem", "warm migration", "pre-copy", "post-copy",
    "presence", "dispatcher", "receiver", "journal", "idempotency key", "domain", "vCPU", "peer",
]  # fmt: skip


@pytest.mark.parametrize("term", GLOSSARY)
def test_glossary_explains(term: str) -> None:
    body = PAGE.partition("## Glossary")[2].partition("\n## ")[0]
    assert re.search(rf"^\| {re.escape(term)} \| .{{20,}}\|$", body, re.MULTILINE)
