"""Instants: times with a zone on the wire, as RFC 3339 spells them, and as `datetime` in Python."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import fastlib
from fastlib import Message, Quit, TaskContainer, ValidationError
from fastlib.codec.derivation import shape_of
from fastlib.codec.dispatch import read_exact
from fastlib.codec.fast_reader import UNSUPPORTED, read_fast
from fastlib.codec.instants import (
    EXAMPLE,
    READ_PATTERN,
    WRITTEN_PATTERN,
    in_utc,
    parse_instant,
    write_instant,
)
from fastlib.codec.limits import DEFAULT_LIMITS
from fastlib.message.node import Presence
from tests.support.declarations import round_trips
from tests.support.problems import problems, refusal
from tests.support.strategies import examples

TIMES = st.datetimes(timezones=st.just(UTC))
OFFSETS = st.integers(-(23 * 60 + 59), 23 * 60 + 59)
"""Minutes east of UTC, as far as RFC 3339 can spell them."""


class Times(Message):
    """Instants in each kind of field."""

    some: Sequence[datetime] = ()
    named: Mapping[str, datetime] | None = None
    one: datetime | None = None


def utc(*numbers: int) -> datetime:
    return datetime(*numbers, tzinfo=UTC)  # type: ignore[misc,arg-type]


# --- spellings ------------------------------------------------------------------------------------

SPELLINGS = [
    ("2026-11-29T06:30:00Z", utc(2026, 11, 29, 6, 30)),
    ("2026-11-29t06:30:00z", utc(2026, 11, 29, 6, 30)),
    ("2026-11-29 06:30:00Z", utc(2026, 11, 29, 6, 30)),
    ("2026-11-29T06:30:00+00:00", utc(2026, 11, 29, 6, 30)),
    ("2026-11-29T06:30:00-00:00", utc(2026, 11, 29, 6, 30)),
    ("2026-11-29T07:30:00+01:00", utc(2026, 11, 29, 6, 30)),
    ("2026-11-28T22:00:00-08:30", utc(2026, 11, 29, 6, 30)),
    ("2026-11-30T06:29:00+23:59", utc(2026, 11, 29, 6, 30)),
    ("2026-11-28T06:31:00-23:59", utc(2026, 11, 29, 6, 30)),
    ("2026-11-29T06:30:00.5Z", utc(2026, 11, 29, 6, 30, 0, 500_000)),
    ("2026-11-29T06:30:00.000001Z", utc(2026, 11, 29, 6, 30, 0, 1)),
    ("2026-11-29T06:30:00.0000019Z", utc(2026, 11, 29, 6, 30, 0, 1)),
    (f"2026-11-29T06:30:00.{'9' * 5000}+00:00", utc(2026, 11, 29, 6, 30, 0, 999_999)),
    ("2024-02-29T00:00:00Z", utc(2024, 2, 29)),
    ("2000-02-29T00:00:00Z", utc(2000, 2, 29)),
    # Leap seconds, as in section 5.8 of RFC 3339.
    ("1990-12-31T23:59:60Z", utc(1991, 1, 1)),
    ("1990-12-31T15:59:60-08:00", utc(1991, 1, 1)),
    ("2016-12-31T23:59:60.25Z", utc(2017, 1, 1, 0, 0, 0, 250_000)),
    ("2017-01-01T05:29:60+05:30", utc(2017, 1, 1)),
    # The edges of the years that Python knows.
    ("0001-01-01T00:00:00Z", utc(1, 1, 1)),
    ("0001-01-01T01:00:00+01:00", utc(1, 1, 1)),
    ("9999-12-31T23:59:59.999999Z", datetime.max.replace(tzinfo=UTC)),
    ("9999-12-31T22:59:59-01:00", utc(9999, 12, 31, 23, 59, 59)),
]

OTHER_TEXTS = [
    *("", "now", "2026-11-29", "06:30:00Z", "1795933800", "2026-11-29T06:30:00"),
    *("2026-11-29T06:30Z", "2026-11-29T06Z", "20261129T063000Z", "2026-11-29T06:30:00+0100"),
    *("2026-11-29T06:30:00+01", "2026-11-29T06:30:00 Z", "2026-11-29T06:30:00 +01:00"),
    *("2026-11-29  06:30:00Z", "2026-11-29_06:30:00Z", "2026-11-29T06:30:00,5Z"),
    *("2026-11-29T06:30:00.Z", "2026-11-29T06:30:00ZZ", "2026-11-29T06:30:00Z ", " 2026-11-29"),
    *("2026-11-29T06:30:00Z\n", "26-11-29T06:30:00Z", "12026-11-29T06:30:00Z"),
    *("-2026-11-29T06:30:00Z", "2026-W48-7T06:30:00Z", "2026-333T06:30:00Z"),
    *("2026-11-29T06:30:00UTC", "2026-11-29T06:30:00 GMT", "2026-11-29T06:30:00\u22121:00"),
    *("\u0662\u0660\u0662\u0666-11-29T06:30:00Z", "2026-11-29T06:30:0\u0663Z"),
    # Days and times that do not exist.
    *("2026-02-29T00:00:00Z", "1900-02-29T00:00:00Z", "2026-13-01T00:00:00Z"),
    *("2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "2026-04-31T00:00:00Z"),
    *("2026-11-29T24:00:00Z", "2026-11-29T06:60:00Z", "2026-11-29T06:30:61Z"),
    *("2026-11-29T06:30:00+24:00", "2026-11-29T06:30:00+01:60", "0000-01-01T00:00:00Z"),
    # A leap second is at the end of a day in UTC.
    *("2026-11-29T06:30:60Z", "1990-12-31T23:59:60+01:00", "1990-12-31T23:58:60Z"),
    # Outside of the years 1 to 9999 in UTC.
    *("0001-01-01T00:59:59+01:00", "9999-12-31T23:00:00-01:00", "9999-12-31T23:59:60Z"),
]


@pytest.mark.parametrize(("text", "value"), SPELLINGS, ids=lambda value: str(value)[:40])
def test_every_spelling_is_read(text: str, value: datetime) -> None:
    found = parse_instant(text)
    assert found == value
    assert found is not None
    assert found.tzinfo is UTC
    assert re.search(READ_PATTERN, text)


@pytest.fixture
def other_local_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process whose local time is not UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "XXX-5")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("other_local_time")
def test_time_is_moved_to_utc_whatever_the_local_time() -> None:
    assert datetime(2026, 1, 1).astimezone().utcoffset() == timedelta(hours=5)
    value = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert in_utc(value) == parse_instant("2026-01-01T12:00:00+02:00") == utc(2026, 1, 1, 10)


def test_time_in_utc_is_not_copied() -> None:
    value = utc(2026, 1, 1)
    assert in_utc(value) is value


@pytest.mark.parametrize("text", OTHER_TEXTS)
def test_other_texts_are_refused_as_instants(text: str) -> None:
    assert parse_instant(text) is None


PLACES = {
    "double quotes": 'status: online\ntime: "{}"\n',
    "single quotes": "status: online\ntime: '{}'\n",
    "plain": "status: online\ntime: {}\n",
    "plain before a comment": "status: online\ntime: {}  # clock\n",
    "flow, plain": "{{status: online, time: {}}}\n",
    "flow, quoted": '{{"status": online, "time": "{}"}}\n',
    "document of a C++ peer": "---\ntime: {}\nstatus: online\n---",
}


def read_both(text: str) -> Any:
    """Return the message, which the fast and the exact reader agree on."""
    shape = shape_of(Presence)
    exact = read_exact(shape, text, what="Presence")
    fast = read_fast(shape, text, DEFAULT_LIMITS)
    if fast is not UNSUPPORTED:
        assert fast == exact
        assert repr(fast) == repr(exact)
    assert Presence.from_yaml(text) == exact
    assert fastlib.validate(text, Presence).problems == ()
    return exact


@pytest.mark.parametrize("place", PLACES)
def test_both_readers_read_every_spelling(place: str) -> None:
    for text, value in SPELLINGS:
        assert read_both(PLACES[place].format(text)).time == value


def test_fast_reader_reads_written_texts() -> None:
    for _, value in SPELLINGS:
        text = Presence(status="online", time=value).to_yaml()
        found = read_fast(shape_of(Presence), text, DEFAULT_LIMITS)
        assert found == Presence(status="online", time=value)


@pytest.mark.parametrize("place", PLACES)
def test_both_readers_refuse_other_texts(place: str) -> None:
    for text in OTHER_TEXTS:
        if not text or text != text.strip():
            continue  # to YAML, an empty text is null, and the space around a text is none of it
        document = PLACES[place].format(text)
        report = fastlib.validate(document, Presence)
        assert not report.ok, document
        with pytest.raises(fastlib.FastlibError):
            Presence.from_yaml(document)
        assert read_fast(shape_of(Presence), document, DEFAULT_LIMITS) is UNSUPPORTED


@st.composite
def spellings(draw: st.DrawFn) -> tuple[str, datetime]:
    """A spelling of RFC 3339, and the time that it means."""
    fraction = draw(st.text("0123456789", max_size=12))
    micro = int(fraction[:6].ljust(6, "0"))
    local = draw(st.datetimes()).replace(microsecond=0)
    offset = draw(OFFSETS)
    sign, minutes = ("-" if offset < 0 else "+"), abs(offset)
    zone = f"{sign}{minutes // 60:02}:{minutes % 60:02}"
    if offset == 0:
        zone = draw(st.sampled_from(["Z", "z", "+00:00", "-00:00"]))
    between = draw(st.sampled_from("Tt "))
    text = local.isoformat().replace("T", between) + (f".{fraction}" if fraction else "") + zone
    seconds = (local - datetime(1970, 1, 1)).total_seconds() - 60 * offset
    first, last = (datetime.min, datetime.max)
    assume((first - datetime(1970, 1, 1)).total_seconds() <= seconds)
    assume(seconds <= (last - datetime(1970, 1, 1)).total_seconds() - 1)
    return text, utc(1970, 1, 1) + timedelta(seconds=seconds, microseconds=micro)


@examples(40, 20_000)
@given(spellings(), st.sampled_from(sorted(PLACES)))
def test_every_spelling_means_its_instant(spelling: tuple[str, datetime], place: str) -> None:
    text, value = spelling
    assert parse_instant(text) == value
    assert re.search(READ_PATTERN, text)
    assert read_both(PLACES[place].format(text)).time == value


@st.composite
def nearly(draw: st.DrawFn) -> str:
    """A spelling of RFC 3339 with up to three characters replaced."""
    text = list(draw(spellings())[0])
    for _ in range(draw(st.integers(0, 3))):
        text[draw(st.integers(0, len(text) - 1))] = draw(st.sampled_from("01234569:-+.TtZz _"))
    return "".join(text)


@examples(40, 50_000)
@given(nearly())
def test_schema_pattern_accepts_every_readable_text(text: str) -> None:
    """Apart from leap seconds and the edges of the years, which a pattern does not know."""
    found, admitted = parse_instant(text), re.search(READ_PATTERN, text) is not None
    if found is not None:
        assert admitted
    elif admitted:
        assert text[17:19] == "60" or text[:4] in ("0001", "9999")


@examples(40, 20_000)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    value = parse_instant(text)
    assert value is None or re.search(READ_PATTERN, text)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["2026-11-29 06:30", "soon", "2026-02-30T06:30:00Z", "1795933800"])
def test_error_has_line_column_and_an_example(text: str) -> None:
    (problem,) = problems(f"task: quit\nid: a\nexpires:   {text}\n")
    assert (problem.line, problem.column, problem.code) == (3, 12, "value")
    assert problem.path == "expires"
    assert f"expected a time with a zone in the years 1 to 9999, such as {EXAMPLE}" in str(problem)
    assert f"got {text!r}" in str(problem)
    assert parse_instant(EXAMPLE) is not None


def test_time_without_zone_is_refused_with_a_suggestion() -> None:
    (problem,) = problems("task: quit\nexpires: 2026-11-29T06:30:00\n")
    assert problem.suggestion == "2026-11-29T06:30:00Z"
    assert "did you mean '2026-11-29T06:30:00Z'?" in str(problem)


@pytest.mark.parametrize("text", ["[]", "{a: b}", "[2026-11-29T06:30:00Z]"])
def test_other_kinds_are_refused(text: str) -> None:
    (problem,) = problems(f"task: quit\nexpires: {text}\n")
    assert (problem.line, problem.column, problem.code) == (2, 10, "type")


def test_null_is_absent_with_a_warning() -> None:
    report = fastlib.validate("task: quit\nexpires: ~\n")
    assert report.ok
    assert [problem.code for problem in report.problems] == ["null"]
    assert report.message == TaskContainer(tasks=[Quit()])


def test_long_text_is_shortened_in_the_error() -> None:
    (problem,) = problems(f"task: quit\nexpires: {'9' * 100_000}\n")
    assert len(str(problem)) < 250


# --- values in Python -----------------------------------------------------------------------------


class Dublin(tzinfo):
    """A zone that goes back from UTC+1 to UTC: each time in one hour comes twice."""

    def utcoffset(self, when: datetime | None) -> timedelta:
        return timedelta(hours=0 if when is not None and when.fold else 1)

    def dst(self, when: datetime | None) -> timedelta:
        return self.utcoffset(when)

    def __repr__(self) -> str:
        return "Dublin()"  # without an address: workers compare the names of the tests


class Stamp(datetime):
    """A subclass, as pandas and others have."""


@pytest.mark.parametrize(
    "value",
    [
        utc(2026, 11, 29, 6, 30),
        datetime(2026, 11, 29, 7, 30, tzinfo=timezone(timedelta(hours=1))),
        datetime(2026, 11, 29, 7, 30, tzinfo=timezone(timedelta(hours=1), "CET")),
        datetime(2026, 11, 29, 6, 30, tzinfo=timezone(timedelta(0), "also UTC")),
        datetime(2026, 11, 29, 7, 30, tzinfo=Dublin()),
        datetime(2026, 11, 29, 6, 30, fold=1, tzinfo=Dublin()),
        datetime(2026, 11, 29, 6, 30, fold=1, tzinfo=UTC),
        Stamp(2026, 11, 29, 6, 30, tzinfo=UTC),
        Stamp(2026, 11, 29, 7, 30, tzinfo=Dublin()),
    ],
    ids=repr,
)
def test_instant_is_stored_as_a_plain_datetime_in_utc(value: datetime) -> None:
    container = TaskContainer(tasks=[Quit()], expires=value)
    expires = container.expires
    assert type(expires) is datetime
    assert repr(expires) == repr(utc(2026, 11, 29, 6, 30))
    assert container == TaskContainer(tasks=[Quit()], expires=utc(2026, 11, 29, 6, 30))
    assert 'expires: "2026-11-29T06:30:00Z"' in container.to_yaml()
    assert container.emit()["expires"] == "2026-11-29T06:30:00Z"


@examples(40, 20_000)
@given(TIMES, OFFSETS)
def test_equal_instants_of_different_zones_are_equal(value: datetime, offset: int) -> None:
    try:
        elsewhere = value.astimezone(timezone(timedelta(minutes=offset)))
    except OverflowError:
        assume(False)
    assert Presence(status="online", time=elsewhere) == Presence(status="online", time=value)
    assert hash(in_utc(elsewhere)) == hash(value)


def test_naive_datetime_is_refused_with_the_remedy() -> None:
    ((path, message),) = refusal(
        lambda: TaskContainer(tasks=[Quit()], expires=datetime(2026, 11, 29, 6, 30))
    )
    assert path == "expires"
    assert message.startswith("expected a datetime with a zone; got datetime.datetime(2026, 11, 29")
    assert "datetime.now(timezone.utc)" in message
    assert "value.astimezone()" in message


@pytest.mark.parametrize("value", [date(2026, 11, 29), "2026-11-29T06:30:00Z", 1795933800.0, True])
def test_values_other_than_datetimes_are_refused(value: Any) -> None:
    ((path, message),) = refusal(lambda: TaskContainer(tasks=[Quit()], expires=value))
    assert path == "expires"
    assert message.startswith(f"expected a datetime with a zone, such as that of {EXAMPLE}; got ")


@pytest.mark.parametrize(
    "value",
    [
        datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    ],
    ids=repr,
)
def test_datetime_outside_of_the_years_in_utc_is_refused(value: datetime) -> None:
    ((_, message),) = refusal(lambda: TaskContainer(tasks=[Quit()], expires=value))
    assert message.startswith("expected a time in the years 1 to 9999 (UTC); got ")


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("microsecond", "text"),
    [(0, "00Z"), (1, "00.000001Z"), (100, "00.0001Z"), (500_000, "00.5Z"), (999_999, "00.999999Z")],
)
def test_fraction_has_as_few_digits_as_needed(microsecond: int, text: str) -> None:
    value = utc(2026, 11, 29, 6, 30, 0, microsecond)
    assert write_instant(value) == f"2026-11-29T06:30:{text}"


def test_early_years_have_four_digits() -> None:
    assert write_instant(utc(33, 4, 3, 15)) == "0033-04-03T15:00:00Z"


@examples(40, 20_000)
@given(TIMES)
def test_written_instant_reads_back(value: datetime) -> None:
    text = write_instant(value)
    assert re.search(WRITTEN_PATTERN, text)
    assert parse_instant(text) == value
    assert datetime.fromisoformat(text) == value, "Python's own reader agrees"


@examples(20, 5_000)
@given(
    st.lists(TIMES, max_size=3),
    st.none() | st.dictionaries(st.sampled_from("abc"), TIMES, min_size=1),
    st.none() | TIMES,
)
def test_instants_in_lists_and_mappings_travel(
    some: list[datetime], named: dict[str, datetime] | None, one: datetime | None
) -> None:
    message = Times(some=some, named=named, one=one)
    for style in ("block", "literal", "flow"):
        assert Times.from_yaml(message.to_yaml(style=style)) == message
    assert Times.load(message.emit()) == message


def test_problem_in_a_list_of_instants_has_its_place() -> None:
    text = "some:\n- 2026-11-29T06:30:00Z\n- 2026-11-29\n"
    (problem,) = problems(text, Times)
    assert (problem.line, problem.column, problem.path) == (3, 3, "some[1]")
    ((path, _),) = refusal(lambda: Times(some=[utc(2026, 11, 29), datetime(2026, 11, 29)]))
    assert path == "some[1]"


def test_keys_of_orders_travel() -> None:
    container = TaskContainer(
        tasks=[Quit()], id="a", expires=utc(2026, 11, 29, 6, 30), idempotency_key="k-1"
    )
    round_trips(container)
    with pytest.raises(ValidationError, match="expires"):
        fastlib.load("task: quit\nexpires: tomorrow\n")
