"""`migfra --check --online` opens ponci, and makes its parent as the daemon would."""

from pathlib import Path

import pytest

from fastlib.cli.migfra import main
from tests.support.mosquitto import Mosquitto
from tests.support.ponci.cgroup_trees import CgroupTrees
from tests.support.ponci.parent_groups import parent_name

pytestmark = pytest.mark.cgroups


def test_ponci_is_opened_only_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    parent = parent_name("check")
    trees = CgroupTrees(parent)
    file = tmp_path / "migfra.yaml"
    with Mosquitto(tmp_path / "broker") as broker:
        file.write_text(
            f"hostname: checked\ncommunicator: {{host: 127.0.0.1, port: {broker.port}}}\n"
            f"hypervisor: {{type: ponci, parent: {parent}}}\n"
        )
        try:
            assert main(["-c", str(file), "--check"]) == 0
            assert not any(folder.exists() for folder in trees.parents)
            assert main(["-c", str(file), "--check", "--online"]) == 0
            assert all(folder.exists() for folder in trees.parents)
        finally:
            for folder in trees.parents:
                if folder.exists():
                    folder.rmdir()
    assert "the hypervisor ponci can be opened" in capsys.readouterr().out
