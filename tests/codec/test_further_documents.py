"""A second document is found without parsing, exactly where the exact reader finds one."""

import random

import pytest

import fastlib
from fastlib.codec.composer import compose_all
from fastlib.codec.errors import MessageError
from fastlib.codec.further_documents import further_document
from fastlib.codec.limits import Limits


@pytest.mark.parametrize(
    "text",
    [
        "", "---", "a: b", "---\na: b\n---", "---\na: b\n---\n\n", "a: b\n...\n# c\n%FOO\n",
        "# c\n%FOO\n---\na: b\n---\n# d\n  # e\n", "a: |\n  ---\n  b\n---", "---a: b\n",
        "--- {a: b}\n", "a: b\r\n---\r\n", "a: b\n---\ufeff\n", "---\n---\na: b", "a: b\n--- # c",
        "\ufeff# c\n---\n\n---\na: b\n---\n---\n...\n", "a: b\n...\n", "a: b\n---\t\n \n",
    ],
)  # fmt: skip
def test_one_document_is_no_problem(text: str) -> None:
    assert further_document(text) is None


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: b\n---\nc: d", 3, 1), ("---\na: b\n---\n  c: d\n---", 4, 3),
        ("--- a\n--- {c: d}", 2, 5),
        ("a: b\n...\nc", 3, 1), ("a: b\n...\n%FOO\n---\n# c\nc", 6, 1),
        ("a: b\n---\ufeffc: d", 2, 5),
        ("\n\n---\na: b\n---\n---\n\nc", 8, 1), ("a: b\r\n---\r\nc: d\r\n", 3, 1),
        ("a: b\n---\n-", 3, 1), ("a: b\n---\n...\n--- - a", 4, 5), ("a: b\n---\n---x: y", 3, 1),
    ],
)  # fmt: skip
def test_second_document_has_its_place(text: str, line: int, column: int) -> None:
    problem = further_document(text)
    assert problem is not None
    assert (problem.code, problem.severity) == ("further-document", "warning")
    assert (problem.line, problem.column) == (line, column)


PARTS = [
    "---\n", "...\n", "--- ", "---\t", "a: b\n", "{c: d}\n", "# e\n", "\n", "  \n", "  f: g\n",
    "|\n  ---\n",
    "'h'\n", "--- # i\n", "---\r\n", "...", "---",
]  # fmt: skip


def test_exact_reader_finds_the_same_documents() -> None:
    """Its documents also count if they have an error, because only the first was read."""
    rng = random.Random(15)
    seen = {True: 0, False: 0}
    for _ in range(1500):
        text = "".join(rng.choice(PARTS) for _ in range(rng.randint(1, 7)))
        documents = compose_all(text, Limits(), "text")
        try:
            first = next(documents, None)
            if first is None:  # nothing was read, such as `---` before `---`
                continue
            further = any(node is not None for node in documents)
        except MessageError:
            continue
        assert (further_document(text) is not None) == further, text
        seen[further] += 1
    assert min(seen.values()) > 50


@pytest.mark.parametrize("key", ["", "x: y\n"], ids=["fast reader", "exact reader"])
def test_load_reports_a_second_document(key: str) -> None:
    ignored: list = []
    fastlib.load(f"---\ntask: quit\n{key}---\ntask: quit\n---", ignored=ignored)
    assert [p.code for p in ignored] == ["unknown-key"] * bool(key) + ["further-document"]
    ignored.clear()
    fastlib.load(f"---\ntask: quit\n{key}---\n", ignored=ignored)
    assert [p.code for p in ignored] == ["unknown-key"] * bool(key)
