"""The options of a migration and which of them go together, from the table of combinations."""

from typing import Final

from fastlib.migfra.virt import combinations, program_versions
from fastlib.migfra.virt.combinations import CHOICES, Choice
from fastlib.migfra.virt.program_versions import Bound

_ROWS: Final = tuple(choice for choice in CHOICES if choice.kind != "condition")


def tables() -> str:
    """Return the tables in Markdown."""
    return "\n".join((_options(), _matrix(), _exceptions()))


def _options() -> str:
    lines = ["| | option | needs | shown in the laboratory |", "|---|---|---|---|"]
    for number, choice in enumerate(_ROWS, 1):
        needs = [str(bound) for bound in choice.bounds]
        if choice.only_qemu:
            needs = needs if any("QEMU" in need for need in needs) else ["QEMU", *needs]
        shown = "yes" if choice.not_shown is None else f"no, as {choice.not_shown}"
        lines.append(f"| {number} | {_text(choice)} | {'; '.join(needs)} | {shown} |")
    return "\n".join(lines) + "\n"


def _text(choice: Choice) -> str:
    return f"`{choice}`" if choice.kind in ("order", "daemon") else str(choice)


def _matrix() -> str:
    numbers = range(1, len(_ROWS) + 1)
    lines = [
        "| | " + " | ".join(map(str, numbers)) + " |",
        "|---|" + "---|" * len(_ROWS),
    ]
    for number, choice in enumerate(_ROWS, 1):
        cells = " | ".join(_cell(choice, other) for other in _ROWS)
        lines.append(f"| **{number}** {_text(choice)} | {cells} |")
    return "\n".join(lines) + "\n"


def _cell(first: Choice, second: Choice) -> str:
    if first.option == second.option:
        return ""
    rule = combinations.rule_for(first, second)
    if rule is None:
        return "(yes)" if first.not_shown or second.not_shown else "yes"
    if rule.verdict == "versions":
        return "; ".join(map(_version, rule.bounds))
    return "no" if rule.verdict == "refused" else "="


def _version(bound: Bound) -> str:
    return f"{bound.program} {program_versions.version_text(bound.since)}"


def _exceptions() -> str:
    lines = ["| pair | | why | what to do | where it is seen |", "|---|---|---|---|---|"]
    for first, second in combinations.pairs():
        rule = combinations.rule_for(first, second)
        if rule is None or rule.verdict == "no effect":
            continue
        verdict = "refused"
        if rule.verdict == "versions":
            verdict = f"refused, unless there is {'; '.join(map(str, rule.bounds))}"
        lines.append(
            f"| {_text(first)}, {_text(second)} | {verdict} | {rule.reason} | {rule.remedy} | "
            f"{rule.source} |"
        )
    return "\n".join(lines) + "\n"
