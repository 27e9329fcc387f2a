"""`fastlib files`: the files that it copies, and those that it does not overwrite."""

import os
from pathlib import Path

import pytest

from fastlib.cli import main
from fastlib.files import KINDS, FilesError, copy_files, file_names, read_file
from fastlib.migfra import Configuration

ROOT = Path(__file__).parents[2]


def test_files_are_those_of_the_repository(tmp_path: Path) -> None:
    written = copy_files(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in written] == file_names()
    for name in KINDS:
        places = [ROOT / "docs" / name, ROOT / name, ROOT / "fastlib/files/deploy.py"]
        source = next(place for place in places if place.exists())
        below = source.rglob("*") if source.is_dir() else [source]
        for path in below:
            relative = path.relative_to(source)
            if path.is_file() and relative.parts[:1] not in [("released",), ("examples",)]:
                assert (tmp_path / name / relative).read_bytes() == path.read_bytes()
    assert read_file("migfra.service") == (ROOT / "docs/migfra.service").read_bytes()


def test_command_prints_the_written_files(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "new" / "folder"
    assert main(["files", str(folder)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [str(folder / name) for name in file_names()]
    assert main(["files", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder} has all files already\n"


def test_changed_file_is_overwritten_only_by_force(tmp_path: Path, capsys) -> None:
    copy_files(tmp_path)
    own = tmp_path / "migfra.yaml"
    own.write_text("hypervisor: {type: libvirt}\n")
    missing = tmp_path / "mosquitto.acl"
    missing.unlink()
    assert main(["files", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(own) in error
    assert "--force" in error
    assert own.read_text() == "hypervisor: {type: libvirt}\n"
    assert not missing.exists()
    assert main(["files", str(tmp_path), "--force"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(own), str(missing)]
    assert own.read_bytes() == read_file("migfra.yaml")


def test_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("theirs")
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "migfra.yaml").symlink_to(other)
    with pytest.raises(FilesError, match="another content"):
        copy_files(folder)
    copy_files(folder, force=True)
    assert other.read_text() == "theirs"
    assert not (folder / "migfra.yaml").is_symlink()


def test_dangling_link_counts_as_a_file_of_another_content(tmp_path: Path) -> None:
    (tmp_path / "migfra.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FilesError, match="another content"):
        copy_files(tmp_path)


@pytest.mark.parametrize("place", ["file", "folder"])
def test_impossible_place_is_one_error(place: str, tmp_path: Path, capsys) -> None:
    target = tmp_path / "target"
    if place == "file":
        target.write_text("")
    else:
        (target / "migfra.yaml").mkdir(parents=True)
    assert main(["files", str(target), "--force"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fastlib files: error: {target}")
    assert error.count("\n") == 1


def test_only_programs_can_be_executed(tmp_path: Path) -> None:
    executable = [path.name for path in copy_files(tmp_path) if os.access(path, os.X_OK)]
    assert executable == ["migfra-deploy"]


def test_sample_configuration_is_correct() -> None:
    configuration = Configuration.from_yaml(read_file("migfra.yaml").decode())
    assert configuration.hypervisor is not None
