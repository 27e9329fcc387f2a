"""Write a report as text for people, as JSON for programs, or as JUnit XML for collectors."""

import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

import msgspec

from fastlib.codec.printable import INVISIBLE, escape_json, is_visible, printable

from .report import ConformanceReport, Difference
from .verdict import CHECKS

_SHOWN = 1000
"""The maximum number of characters of a text that are shown to people."""
_NAMES = 5
"""The maximum number of types, places and golden vectors that are named."""
_WIDTH = 79
"""The width of descriptions in columns; a text is not wrapped."""


def as_text(report: ConformanceReport) -> str:
    """Return the text for people: each difference with both sides' words, and a summary."""
    parts = ["\n".join(_lines(each)) for each in report.failures]
    parts.append("\n".join(_summary(report)))
    return "\n\n".join(parts) + "\n"


def _lines(difference: Difference) -> Iterator[str]:
    yield difference.name
    others = [name for name in difference.types if name != difference.type]
    yield from _words(
        "type", f"{difference.type}; also in {_some(others)}" if others else difference.type
    )
    if len(difference.places) > 1:
        yield from _words("places", _some(difference.places))
    if difference.golden:
        yield from _words("golden vectors", _some(difference.golden))
    yield from _exactly("sent", difference.text)
    show = _words if difference.ours.startswith("refused: ") else _block
    yield from show("fastlib", difference.ours)
    if difference.words == difference.theirs:
        yield from _words("program", difference.words)
    else:
        yield from _block("program", difference.theirs)
        yield from _words("difference", difference.words)
    if difference.golden_note:
        yield from _words("known", difference.golden_note)
    if difference.stderr:
        yield from _block("its standard error ends with", difference.stderr)


def _exactly(name: str, text: str) -> Iterator[str]:
    """Yield a text, as a Python literal if it would otherwise be ambiguous."""
    lines = text.removesuffix("\n").split("\n")
    if all(is_visible(line) and line == line.rstrip() for line in lines):
        yield from _block(name, text)
    else:
        yield f"  {name}: {_cut(text)!r}"


def _block(name: str, text: str) -> Iterator[str]:
    """Yield one line, or several lines below the name."""
    lines = [printable(line) for line in _cut(text).removesuffix("\n").split("\n")]
    if len(lines) == 1:
        yield f"  {name}: {lines[0]}"
    else:
        yield f"  {name}:"
        yield from (f"    {line}".rstrip() for line in lines)


def _words(name: str, text: str) -> Iterator[str]:
    """Yield words, wrapped to lines."""
    lines = [printable(line) for line in _cut(text).split("\n")]
    first = f"  {name}: {lines[0]}"
    for line in (first, *(f"    {line}" for line in lines[1:])):
        indent = "    "
        yield from textwrap.wrap(
            line, _WIDTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
        ) or [""]


def _some(names: Sequence[str]) -> str:
    """Return the first of some names, and the number of further ones."""
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _summary(report: ConformanceReport) -> Iterator[str]:
    for difference in report.differences:
        if difference.allowed is not None:
            yield f"allowed: {difference.name}: {difference.allowed}"
    for name in report.unused:
        yield f"allowed, but not found: {name}"
    for name, number in report.unsupported.items():
        if name in report.types:
            yield f"unsupported type: {name}"
        else:
            yield f"unsupported: {printable(name)} ({_plural(number, 'request')})"
    if report.unfinished:
        yield f"not tested completely: {', '.join(report.unfinished)}"
    if report.given_up:
        yield f"aborted: {printable(report.given_up)}"
    count = len(report.failures)
    found = {0: "no differences", 1: "1 difference"}.get(count, f"{count} differences")
    yield (
        f"{found} in {report.requests} requests of {_plural(len(report.types), 'type')} "
        f"(seed {report.seed}, {_plural(report.examples, 'example')} each)"
    )


def _plural(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def as_json(report: ConformanceReport) -> str:
    """Return the JSON for programs: one object, indented."""
    tree = {"ok": report.ok, **msgspec.to_builtins(report)}
    return escape_json(msgspec.json.format(msgspec.json.encode(tree)).decode()) + "\n"


def as_junit(report: ConformanceReport) -> str:
    """Return JUnit XML for collectors of test results: a case for each check of each type."""
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(root, "testsuite", name="fastlib conformance")
    failures = skipped = errors = cases = 0
    if report.given_up:
        case = ElementTree.SubElement(suite, "testcase", classname="run", name="is complete")
        ElementTree.SubElement(case, "error", message=_xml(report.given_up))
        errors = cases = 1
    for name in report.types:
        for check in CHECKS:
            case = ElementTree.SubElement(suite, "testcase", classname=_xml(name), name=check)
            cases += 1
            found = [d for d in report.differences if d.check == check and name in d.types]
            failed = [each for each in found if each.allowed is None]
            if failed:
                message = ", ".join(each.name for each in failed)
                failure = ElementTree.SubElement(case, "failure", message=_xml(message))
                failure.text = _xml("\n\n".join("\n".join(_lines(each)) for each in failed))
                failures += 1
            elif found:
                message = "; ".join(f"{each.name}: {each.allowed}" for each in found)
                ElementTree.SubElement(case, "skipped", message=_xml(message))
                skipped += 1
    suite.attrib |= {
        "tests": str(cases),
        "failures": str(failures),
        "errors": str(errors),
        "skipped": str(skipped),
    }
    properties = ElementTree.Element("properties")
    facts = {
        "command": shlex.join(report.command),
        "seed": str(report.seed),
        "requests": str(report.requests),
        "unsupported": ", ".join(report.unsupported),
        "allowed, but not found": ", ".join(report.unused),
    }
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", name=name, value=_xml(value))
    suite.insert(0, properties)
    ElementTree.indent(root)
    # As bytes it begins with the declaration of its encoding.
    data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return data.decode() + "\n"


_NO_XML = re.compile(
    f"(?=[^\t\n])[{INVISIBLE}]|[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)


def _xml(text: str) -> str:
    """Escape characters that XML does not allow or that control a terminal, like Python."""
    sound = _NO_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    if sound.isascii():
        return sound
    return "".join(char if char in "\t\n" else printable(char) for char in sound)
