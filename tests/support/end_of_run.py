"""Skip tests that this machine cannot run, and print such reasons and measured figures at the end.

Both travel as properties of test reports, because parallel workers hand nothing else to the process
that prints the summary.
"""

from collections.abc import Iterable
from typing import NoReturn

import pytest

_SKIPPED = "skipped: "
_FIGURE = "figure: "


def skip(items: Iterable[pytest.Item], title: str, why: str) -> None:
    """Skip tests with a reason; the end of the run prints it in a section with that title."""
    for item in items:
        item.add_marker(pytest.mark.skip(reason=why))
        item.user_properties.append((_SKIPPED + title, f"{item.path.name} is not run: {why}"))


def skip_now(item: pytest.Item, title: str, why: str) -> NoReturn:
    """Skip the test that runs, with a reason for the end of the run."""
    item.user_properties.append((_SKIPPED + title, f"{item.name} is not run: {why}"))
    pytest.skip(why)


def add_figure(node: pytest.Item, title: str, figure: object) -> None:
    """Print a measured figure of a test at the end of the run, in a section with that title."""
    node.user_properties.append((_FIGURE + title, f"{node.name}: {figure}"))


def print_sections(reporter: pytest.TerminalReporter) -> None:
    """Print a section for each title that the tests of this run have used."""
    sections: dict[str, dict[str, None]] = {}
    for reports in reporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "teardown":
                for name, line in report.user_properties:
                    sections.setdefault(name, {})[str(line)] = None
    for name, lines in sections.items():
        for kind, separator in ((_SKIPPED, "!"), (_FIGURE, "=")):
            if name.startswith(kind):
                reporter.section(name.removeprefix(kind), sep=separator)
                for line in lines:
                    reporter.line(line)
