"""The check of spelling and banned turns finds them where they are."""

from pathlib import Path

import pytest

from tools import wording

PAGE = Path("page.md")


def found(text: str, place: str = "prose") -> list[tuple[int, str]]:
    text = wording.prose(text) if place == "prose" else text
    return [(each.line, each.text.strip()) for each in wording.findings_in(PAGE, 1, text, place)]


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("It has so many places.\n", [(1, "so many")]),
        ("One.\n\nWhat is wrong is named.\n", [(3, "What i")]),
        ("It waits. Who answers is ended.\n", [(1, ". Who a")]),
        ("The key stands twice.\n", [(1, "stands")]),
        ("The task is under way.\n", [(1, "under way")]),
        ("It runs.\nIt does not wait any more.\n", [(2, "any more")]),
        ("A host that cannot be asked.\n", [(1, "cannot be asked")]),
        ("The user is told.\nIt was told twice.\n", [(1, "is told"), (2, "was told")]),
    ],
)
def test_banned_turn_is_found_with_its_line(text: str, findings: list[tuple[int, str]]) -> None:
    assert found(text) == findings


@pytest.mark.parametrize(
    "text",
    [
        "What is a domain? A virtual machine.\n",
        "The daemon stands still.\n",
        "# What is asked\n",
        "`so many` is code.\n",
        "```\nWhoever reads this\n```\n",
        "[a link](so-many-garbage.md)\n",
        "A list of what is refused. Officers wait. Whatever.\n",
        "The garbage collector runs.\n",
        "How many more there are. The network works.\n",
    ],
)
def test_other_text_is_left_alone(text: str) -> None:
    assert found(text) == []


def test_text_constants_have_their_own_list() -> None:
    assert found("it stands there", "texts") == []
    assert found("it lets go", "texts") == [(1, "lets go")]
    assert found("so many tasks under way", "texts") == [(1, "so many"), (1, "under way")]
    source = 'def f():\n    """First."""\n    return f"{1} second"\n'
    assert sorted(wording.texts(source)) == [(2, "First."), (3, " second")]


def test_every_turn_names_its_replacement() -> None:
    for turn in wording.turns():
        assert turn.instead
        assert turn.places
        assert turn.places <= {"prose", "texts"}


def test_documents_are_checked() -> None:
    names = {path.name for path in wording.documents()}
    assert {"README.md", "architecture.md", "first-scheduler.md", "protocol.md"} <= names
