"""fastlib reads and refuses the same texts as the C++ peers, with the same meaning.

Each difference has one line and must be excused by exactly one entry of the table in
`docs/reference/wire-compatibility.md`, which is read from there:

- `rejects: …`     a peer reads the text; our problem with it, one line for each
- `differs: …`     both read the text, but what the peer wrote has another meaning
- `unreadable: …`  both read the text, but what the peer wrote cannot be read
- `accepts: …`     the peer refuses the text; our warning, or else the peer's words and the place
"""

import contextlib
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import fastlib
from fastlib import FastlibError, MessageError, ParseError, Problem
from fastlib.codec import composer, dispatch
from fastlib.codec.derivation import shape_of
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.codec.text import decode
from fastlib.message import Message, agent, mmbwmon
from fastlib.message.describe import find
from fastlib.testing.differences import differences as compare
from fastlib.testing.differences import same
from fastlib.testing.golden import Row, rows
from tests.support.vectors import by_type, name, params

DOCUMENT = (Path(__file__).parents[2] / "docs/reference/wire-compatibility.md").read_text("utf-8")

ROWS = rows()
KILLERS = rows("peer-killers")
NEWER = [row for row in ROWS if row.newer_echo is not None]


# --- reading --------------------------------------------------------------------------------------


@functools.cache
def read(cls: type[Message], text: str | bytes) -> Message | FastlibError:
    """The message of a text, or why there is none."""
    try:
        return cls.from_yaml(text)
    except FastlibError as error:
        return error


def read_exact(cls: type[Message], text: str | bytes) -> Message | FastlibError:
    """As `read`, without the fast reader."""
    what = cls.__name__
    try:
        decoded = decode(text, DEFAULT_LIMITS, what)
        message: Message = dispatch.read_exact(shape_of(cls), decoded, what=what)
    except FastlibError as error:
        return error
    return message


# --- the table ------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """A line of the table."""

    id: str
    phrases: tuple[str, ...]
    rows: int

    def recognises(self, difference: str) -> list[str]:
        """The phrases that fit the whole of a difference, `…` standing for anything."""
        return [phrase for phrase in self.phrases if _pattern(phrase).fullmatch(difference)]


@functools.cache
def _pattern(phrase: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, phrase.split("…"))), re.DOTALL)


def cells(columns: int) -> Iterator[list[str]]:
    """The lines below the head of the document's table of that many columns."""
    for line in DOCUMENT.splitlines():
        found = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(found) == columns:
            yield found


ENTRIES = [
    Entry(id.strip("`"), tuple(re.findall("`([^`]+)`", phrases)), int(count))
    for id, _peer, _fastlib, _reason, phrases, count in cells(6)
]


# --- differences ----------------------------------------------------------------------------------


@functools.cache
def differences(row: Row) -> tuple[str, ...]:
    """Return the differences from the peer, each in the words of the table."""
    ours = read(row.cls, row.text)
    if not row.ok:
        return () if isinstance(ours, FastlibError) else tuple(_accepted(row))
    if isinstance(ours, FastlibError):
        return tuple(f"rejects: {words}" for words in _problems(ours))
    assert row.echo is not None
    theirs = read(row.cls, row.echo)
    if isinstance(theirs, FastlibError):
        return tuple(f"unreadable: {words}" for words in _problems(theirs))
    if same(ours, theirs):
        return ()
    found = tuple(f"differs: {words}" for words in compare(ours.emit(), theirs.emit()))
    assert found
    return found


def _problems(error: FastlibError) -> list[str]:
    assert isinstance(error, MessageError)
    assert error.problems
    return [_words(problem) for problem in error.problems]


def _words(problem: Problem) -> str:
    return f"{problem.path}: {problem.message}" if problem.path else problem.message


def _accepted(row: Row) -> Iterator[str]:
    shape = shape_of(row.cls)
    report = dispatch.inspect(lambda _root, _context: shape, row.text, what=row.cls.__name__)[0]
    assert report.ok
    if report.warnings:
        for problem in report.warnings:
            yield f"accepts: {_words(problem)}"
        return
    assert isinstance(row.text, str)
    place = re.fullmatch(r".*error at line (\d+), column (\d+): (.*)", row.error)
    if place is None:
        yield f"accepts: {row.error} at {row.text!r}"
    else:
        line = row.text.split("\n")[int(place[1]) - 1]
        yield f"accepts: {place[3]} at {line[int(place[2]) - 1 :]!r}"


# --- as the peers ---------------------------------------------------------------------------------

# The table has the words of PyYAML's C parser.
needs_c_parser = pytest.mark.skipif(
    not composer.HAS_C_PARSER, reason="PyYAML has no C extension here"
)


@needs_c_parser
@pytest.mark.parametrize("of_type", by_type(ROWS))
def test_only_listed_differences_from_peers_occur(of_type: list[Row]) -> None:
    for row in of_type:
        for difference in differences(row):
            excuses = [entry.id for entry in ENTRIES if entry.recognises(difference)]
            assert len(excuses) == 1, (
                f"{name(row)}: {difference}\nis excused by {excuses or 'nothing'}"
            )


@needs_c_parser
@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.id) for entry in ENTRIES])
def test_entry_excuses_as_many_vectors_as_it_says(entry: Entry) -> None:
    excused = [
        row.number for row in ROWS if any(entry.recognises(found) for found in differences(row))
    ]
    assert len(excused) == entry.rows, excused
    used = {
        p for row in ROWS for difference in differences(row) for p in entry.recognises(difference)
    }
    assert used == set(entry.phrases)


def test_all_entries_and_vectors_are_read() -> None:
    names = [entry.id for entry in ENTRIES]
    assert len(names) == len(set(names)) > 20
    assert len(ROWS) == 873
    assert len(KILLERS) == 26


@pytest.mark.parametrize("row", params(NEWER))
def test_newer_peers_write_the_same_meaning(row: Row) -> None:
    """A newer parser changes for our purposes but one thing: null is text to it."""
    ours = read(row.cls, row.text)
    assert row.newer_echo is not None
    theirs = read(row.cls, row.newer_echo)
    assert same(ours, theirs) or ('"null"' in str(row.newer_echo) and '"null"' not in str(row.text))


@pytest.mark.parametrize("parser", ["C", "Python"])
@pytest.mark.parametrize("row", params(KILLERS))
def test_texts_that_crash_peers_are_read_or_refused(
    row: Row, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if parser == "Python":
        monkeypatch.setattr(composer, "HAS_C_PARSER", False)
    assert isinstance(row.text, str)
    for text in (row.text, row.text.encode()):
        with contextlib.suppress(FastlibError):  # anything else fails
            assert isinstance(row.cls.from_yaml(text), row.cls)
        fastlib.validate(text)


# --- as ourselves ---------------------------------------------------------------------------------


@pytest.mark.parametrize("of_type", by_type(ROWS))
def test_vectors_that_are_read_round_trip(of_type: list[Row]) -> None:
    for row in of_type:
        message = read(row.cls, row.text)
        if not isinstance(message, FastlibError):
            _comes_back(row, message)


def _comes_back(row: Row, message: Message) -> None:
    tree = message.emit()
    assert same(row.cls.load(tree), message), name(row)
    for style in ("block", "literal", "flow"):
        text = message.to_yaml(style=style)
        assert same(row.cls.from_yaml(text), message), (name(row), text)
        assert same(row.cls.from_yaml(text.encode()), message), (name(row), text)
        assert same(read_exact(row.cls, text), message), (name(row), text)
        plain = next(yaml.safe_load_all(text))
        if plain is None and row.cls is mmbwmon.Ack:  # an empty document is an empty mapping
            plain = {}
        assert same(plain, tree), (name(row), text)


@pytest.mark.parametrize("of_type", by_type(ROWS))
def test_exact_reader_alone_has_the_same_result(of_type: list[Row]) -> None:
    for row in of_type:
        for text in row.texts:
            expected = read(row.cls, text)
            assert same(read_exact(row.cls, text), expected), (name(row), text)
            if isinstance(text, str):  # bytes are what travels
                assert same(read(row.cls, text.encode()), expected), (name(row), text)


@needs_c_parser
@pytest.mark.parametrize("of_type", by_type(ROWS))
def test_python_parser_has_the_same_result(
    of_type: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same message, or an error as well; the words may be others."""
    expected = [(row, read(row.cls, row.text)) for row in of_type]
    monkeypatch.setattr(composer, "HAS_C_PARSER", False)
    for row, meant in expected:
        if isinstance(meant, ParseError) and "an indentation must not contain a tab" in str(meant):
            continue  # the one text with a tab that only the C parser minds
        got = read_exact(row.cls, row.text)
        if isinstance(meant, FastlibError):
            assert isinstance(got, FastlibError), (name(row), got)
        else:
            assert same(got, meant), name(row)


# --- the rest of the document ---------------------------------------------------------------------


def test_layout_in_the_document_is_the_written_one() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)\n```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    message = fastlib.load(block)
    assert message.to_yaml() == block


@pytest.mark.parametrize(
    ("text", "written"), [[cell.strip("`") for cell in line] for line in cells(2)]
)
def test_other_spellings_in_the_document_are_read(text: str, written: str) -> None:
    message = fastlib.load(text)
    assert message.to_yaml(style="flow") == written
    assert fastlib.load(written) == message


@needs_c_parser
@pytest.mark.parametrize("row", list(cells(4)), ids=lambda row: row[0])
def test_texts_in_the_document_that_peers_read_otherwise(row: list[str]) -> None:
    name, text = re.findall("`([^`]+)`", row[0])
    outcome = read(find(name), text.replace("⏎", "\n").replace("⇥", "\t"))
    if isinstance(outcome, FastlibError):
        [words] = _problems(outcome)
    else:
        words = f"reads {outcome!r}"
    assert _pattern(row[2].strip("`")).fullmatch(words)


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (fastlib.Stop, "{vm-name: a, regex: null}"),
        (fastlib.Stop, r'vm-name: "a\Nb\_c"'),
        (fastlib.Evacuate, "destinations: [a?b]"),
        (agent.Kpis, "repeat: 1\ncategories:\n  " + "é" * 1000 + ": b"),
        (fastlib.Evacuate, "destinations:\n  - !!str |\n    a\n  - &b |\n    c\n"),
    ],
)
def test_texts_that_only_peers_refuse_are_read(cls: type[Message], text: str) -> None:
    assert isinstance(read(cls, text), cls)


@pytest.mark.parametrize(
    "text",
    [
        "%FOO bar\n---\nvm-name: a",
        "%FOO bar\nvm-name: a",
        "# c\n%\n% x 100%\n\n  \n # c\n%FOO\n---\nvm-name: a\n---",
        "%YAML 1.3\n---\nvm-name: a",
        "%YAML 0.1\n---\nvm-name: a",
        "%YAML 01.3 # c\n---\nvm-name: a",
        "%YAML 1.10 # c\r\n%TAG !e! tag:example.org,2026:%20\r\n---\r\nvm-name: !e!x a\r\n",
        "vm-name: a\n---\ufeff",
        "---\nvm-name: a\n---\ufeff \n",
        "vm-name: a\n...\ufeff\r\n",
        "---\nvm-name: a\n---\ufeff---\nvm-name: b\n",
        "---\nvm-name: a\n---\ufeffvm-name: b\n---",
        "\ufeffvm-name: a\n---\n\ufeff",
        "vm-name: a\n? [a]\n: c\n",
        "? {b: c}\nvm-name: a",
        "{[b]: c, vm-name: a, ~: d}",
    ],
)
def test_texts_that_only_pyyaml_refuses_are_read(text: str) -> None:
    for parser in (composer.HAS_C_PARSER, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(composer, "HAS_C_PARSER", parser)
            assert fastlib.Stop.from_yaml(text) == fastlib.Stop(vm_name="a")
            assert fastlib.Stop.from_yaml(text.encode()) == fastlib.Stop(vm_name="a")
            assert fastlib.validate(text, fastlib.Stop).ok


def test_problems_after_directives_keep_their_places() -> None:
    report = fastlib.validate("%FOO b\n%YAML 1.3\n---\nvm-name: a\nforce: x\n", fastlib.Stop)
    [problem] = report.errors
    assert (problem.line, problem.column) == (5, 8)


def test_byte_order_mark_behind_dashes_within_quotes_is_text() -> None:
    text = '{vm-name: "a\n---\ufeff\n---\ufeffb"}'
    assert fastlib.Stop.from_yaml(text).vm_name == "a ---\ufeff ---\ufeffb"


def test_percent_signs_within_a_document_are_text() -> None:
    assert fastlib.Stop.from_yaml("vm-name: |\n  a\n  %FOO\n").vm_name == "a\n%FOO\n"
    assert fastlib.Stop.from_yaml('{vm-name: "a\n%FOO"}').vm_name == "a %FOO"


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (fastlib.Stop, r'vm-name: "\ud83d\ude00"'),
        (fastlib.Stop, "%YAML 2.0\n---\nvm-name: a"),
        (fastlib.Stop, "%YAML 10.2\n---\nvm-name: a"),
        (fastlib.Stop, "%YAML 1.3#\n---\nvm-name: a"),
        (fastlib.Stop, "%YAML 1.2\n%YAML 1.3\n---\nvm-name: a"),
        (fastlib.Stop, "vm-name: a\n  # comment\n  b"),
        (fastlib.Start, '{vm-name: a, vcpus: " 4"}'),
        (agent.Kpis, "repeat: 1\ncategories:\n  " + "a" * 1025 + ": b"),
        (fastlib.Evacuate, "destinations: [fe80::]"),
    ],
)
def test_texts_that_peers_refuse_are_refused(cls: type[Message], text: str) -> None:
    error = read(cls, text)
    assert isinstance(error, MessageError)
    assert error.line is not None
    assert error.column is not None
