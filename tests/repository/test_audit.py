"""`./dev audit` never says that packages are sound of which it knows nothing."""

import json

import pytest

from tools.audit import FOUND, NOT_CHECKED, judge

SOUND = {"name": "a", "version": "1", "vulns": []}
VULNERABLE = {
    "name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}],
}  # fmt: skip
UNKNOWN = {"name": "c", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([SOUND], 0, ["checked for vulnerabilities: 1 packages"]),
        ([SOUND, VULNERABLE], FOUND, ["b 2: CVE-1, fixed in 2.1"]),
        ([SOUND, UNKNOWN], NOT_CHECKED, ["NOT CHECKED for vulnerabilities: 1 of 2 packages", "c"]),
        ([VULNERABLE, UNKNOWN], FOUND, ["b 2: CVE-1", "NOT CHECKED for vulnerabilities: 1 of 2"]),
        ([], NOT_CHECKED, ["NOT CHECKED for vulnerabilities: 0 of 0"]),
    ],
)
def test_verdict_has_status_and_packages(packages, status, words):
    verdict = judge(json.dumps({"dependencies": packages}), "No known vulnerabilities found\n")
    assert verdict.status == status
    assert all(any(word in line for line in verdict.lines) for word in words)


@pytest.mark.parametrize("report", ["", "Traceback", "{}", "[]", '{"dependencies": 5}'])
def test_failed_audit_is_not_taken_for_a_sound_one(report):
    verdict = judge(report, "Traceback\nConnectionError: no route\n")
    assert verdict.status == NOT_CHECKED
    assert verdict.lines[0].startswith("NOT CHECKED for vulnerabilities: pip-audit failed:")
    assert verdict.lines[0].endswith("ConnectionError: no route")


def test_many_unknown_packages_are_cut():
    many = [{"name": f"p{number}", "skip_reason": "x"} for number in range(30)]
    (line,) = judge(json.dumps({"dependencies": many}), "").lines
    assert "30 of 30 packages" in line
    assert line.endswith("p9 and 20 more")
