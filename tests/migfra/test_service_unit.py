"""The unit of systemd: its options exist, and it gives the daemon no more rights than it needs."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fastlib.cli.migfra import WRONG_CONFIGURATION, make_parser
from fastlib.migfra.service.systemd import watchdog_seconds

UNIT = Path(__file__).parent.parent.parent / "docs" / "migfra.service"
MAX_EXPOSURE = 40
"""Tenths of the number that `systemd-analyze security` prints."""


def values(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_commands_have_existing_options() -> None:
    (command,) = values("ExecStart(?:Pre)?")
    assert command.startswith("/usr/bin/env migfra ")
    assert make_parser().parse_args(command.split()[2:]).config == "/etc/migfra.yaml"


def test_ssh_of_running_migrations_is_not_ended_with_the_daemon() -> None:
    assert values("KillMode") == ["mixed"]


def test_wrong_configuration_does_not_start_again_and_again() -> None:
    assert values("RestartPreventExitStatus") == [f"2 {WRONG_CONFIGURATION}"]
    # A failed ExecStartPre is started again, whatever its status is.
    assert values("ExecStartPre") == []


def test_directories_are_private() -> None:
    assert values("RuntimeDirectoryMode") == values("StateDirectoryMode") == ["0700"]
    assert values("LogsDirectoryMode") == ["0750"]


def test_clock_is_right_before_the_first_order() -> None:
    (after,), (wants,) = values("After"), values("Wants")
    assert "time-sync.target" in after.split()
    assert "time-sync.target" in wants.split()


def test_each_relaxation_has_a_reason_beside_it() -> None:
    lines = UNIT.read_text().splitlines()
    for relaxed in (
        "ProtectHome=read-only", "ProtectSystem=full", "PrivateDevices=no", "ProtectProc=default",
        "ProtectControlGroups=no", "CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_KILL", "UMask=0027",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "SystemCallFilter=@system-service",
    ):  # fmt: skip
        assert lines[lines.index(relaxed) - 1].startswith("# "), relaxed


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is a part of systemd"
)
def test_systemd_accepts_the_unit_and_finds_little_exposure() -> None:
    analyze = ["systemd-analyze", "--no-pager"]
    checked = subprocess.run([*analyze, "verify", UNIT], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    options = ["security", "--offline=true", f"--threshold={MAX_EXPOSURE}"]
    judged = subprocess.run([*analyze, *options, UNIT], capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout + judged.stderr


@pytest.mark.parametrize(
    ("variables", "limit"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_is_fed_if_systemd_watches_this_process(
    variables: dict[str, str], limit: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert watchdog_seconds() == limit
