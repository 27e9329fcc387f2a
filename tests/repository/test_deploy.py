"""Deployment on one host: install, upgrade, the way back and removal, with a real wheel.

One test works below a scratch root, as for the image of a host. The other works in a copy of this
system (an overlay and chroot), and runs the daemon there as the unit says.
"""

import os
import re
import runpy
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fastlib import __version__
from fastlib.files import deploy, read_file
from tests.support import end_of_run
from tests.support.mosquitto import Mosquitto
from tests.support.ponci.cgroup_trees import why_not

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "fastlib" / "files" / "deploy.py"


def reversioned(wheel: Path, version: str, folder: Path) -> Path:
    """Return a copy of a wheel that says another version."""
    copy = folder / wheel.name.replace(f"-{__version__}-", f"-{version}-")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(copy, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "fastlib/__init__.py" or name.endswith(".dist-info/METADATA"):
                data = data.replace(__version__.encode(), version.encode(), 1)
            new.writestr(name.replace(f"-{__version__}.dist-info", f"-{version}.dist-info"), data)
    return copy


@pytest.fixture
def offline(offline_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in set(os.environ) - set(offline_environment):
        monkeypatch.delenv(name)
    for name, value in offline_environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def wheel_of_files(tmp_path: Path) -> Path:
    """A wheel with the files that are read before the installation."""
    wheel = tmp_path / "fastlib_migfra-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("migfra.service", "migfra.yaml"):
            archive.writestr(f"fastlib/files/data/{name}", read_file(name))
    return wheel


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


# --- wrong usage --------------------------------------------------------------------------------


def test_live_installation_needs_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert deploy.main(["uninstall"]) == 1
    assert "run it by sudo, or try it with --dry-run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("other-1.0-py3-none-any.whl", b"", "expected the name of a wheel"),
        ("fastlib_migfra-1.0-py3-none-any.whl", None, "No such file"),
        ("fastlib_migfra-1.0-py3-none-any.whl", b"no archive", "not a zip file"),
    ],
)
def test_wrong_wheel_is_one_error_and_changes_nothing(
    name: str, data: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel, root = tmp_path / name, tmp_path / "root"
    if data is not None:
        wheel.write_bytes(data)
    assert deploy.main(["install", str(wheel), "--root", str(root)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("migfra-deploy: error: ")
    assert said in error
    assert error.count("\n") == 1
    assert tree(root) == []


def test_wheel_without_the_unit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel = tmp_path / "fastlib_migfra-0.0.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("fastlib/__init__.py", "")
    assert deploy.main(["install", str(wheel), "--root", str(tmp_path / "root")]) == 1
    assert "has no migfra.service: choose a newer wheel" in capsys.readouterr().err


def test_missing_constraints_are_one_error(
    wheel_of_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--constraint", str(tmp_path / "missing"), "--root", str(tmp_path / "root")]
    assert deploy.main(["install", str(wheel_of_files), *options]) == 1
    assert f"{tmp_path / 'missing'} cannot be read" in capsys.readouterr().err


def test_user_must_be_able_to_start_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = tmp_path / "private"
    (private / "bin").mkdir(parents=True)
    private.chmod(0o700)
    monkeypatch.setattr(sys, "_base_executable", str(private / "bin" / "python3"))
    with pytest.raises(deploy.DeployError, match=f"migfra may not enter {private}"):
        deploy._check_python("migfra")


def test_older_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer"):
        runpy.run_path(str(DEPLOY))


def test_group_of_libvirt_has_the_user_where_it_exists(tmp_path: Path) -> None:
    host = deploy.Host(tmp_path, dry_run=False)
    deploy._make_user(host, "fast")
    file = tmp_path / "etc/sysusers.d/migfra.conf"
    assert "libvirt" not in file.read_text()
    (tmp_path / "etc/group").write_text("root:x:0:\nlibvirt:x:120:\n")
    deploy._make_user(host, "fast")
    assert "\nm fast libvirt\n" in file.read_text()
    deploy._make_user(host, "root")
    assert not file.exists()


def test_way_back_needs_a_previous_release(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert deploy.main(["rollback", "--root", str(tmp_path)]) == 1
    assert "there is no previous release" in capsys.readouterr().err
    assert deploy.main(["uninstall", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing is installed\n"


def test_second_run_at_once_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with deploy._lock(deploy.Host(tmp_path, dry_run=False)):
        assert deploy.main(["uninstall", "--root", str(tmp_path)]) == 1
    assert "another migfra-deploy runs" in capsys.readouterr().err


def test_foreign_program_is_left_unchanged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = deploy.Host(tmp_path, dry_run=False)
    own = tmp_path / "usr/local/bin/migfra"
    own.parent.mkdir(parents=True)
    own.write_text("theirs")
    deploy._link_program(host, "migfra")
    assert own.read_text() == "theirs"
    assert "is left as it is" in capsys.readouterr().err
    assert deploy.main(["uninstall", "--root", str(tmp_path)]) == 0
    assert own.read_text() == "theirs"


# --- an image -----------------------------------------------------------------------------------


@pytest.mark.packaging
@pytest.mark.usefixtures("offline")
def test_image_is_installed_upgraded_and_restored(
    wheel: Path, wheels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    newer = reversioned(wheel, "99.0", tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        options = ["--find-links", str(wheels)] if arguments[0] == "install" else []
        status = deploy.main([*arguments, *options, "--root", str(root)])
        shown = capsys.readouterr()
        return status, shown.out + shown.err

    def version() -> str:
        python = root / "opt/fastlib/current/bin/python"
        code = "import fastlib; print(fastlib.__version__)"
        return subprocess.check_output([python, "-I", "-c", code], text=True).strip()

    # A dry run prints the changes and makes none.
    status, shown = run("install", str(wheel), "--dry-run")
    assert (status, tree(root)) == (0, [])
    for text in ("would install", "would write", "would link", "migfra.service", "migfra.yaml"):
        assert text in shown
    assert "\nnothing is changed; without --dry-run this installs " in shown
    assert "\ninstalled " not in shown

    status, shown = run("install", str(wheel))
    assert status == 0, shown
    assert version() == __version__
    unit = (root / "etc/systemd/system/migfra.service").read_text()
    assert "\nExecStart=/opt/fastlib/current/bin/migfra -c /etc/migfra.yaml\n" in unit
    assert "User=migfra" in (root / "etc/systemd/system/migfra.service.d/10-user.conf").read_text()
    assert "u migfra" in (root / "etc/sysusers.d/migfra.conf").read_text()
    assert os.readlink(root / "usr/local/bin/migfra") == "/opt/fastlib/current/bin/migfra"
    program = (root / "opt/fastlib/current/bin/migfra").read_text()
    # pip writes a line for the shell if the path of Python has more than 127 characters.
    assert re.match("#!(/bin/sh\n'''exec' )?/opt/fastlib/releases/", program), program
    for path in (root / "opt/fastlib/current/bin").iterdir():
        assert path.is_symlink() or str(root).encode() not in path.read_bytes(), path

    before = tree(root)
    status, shown = run("install", str(wheel))
    assert status == 0
    assert shown.endswith(": nothing to do\n")
    assert tree(root) == before

    # A release that finds an error in the configuration is not used.
    configuration = root / "etc/migfra.yaml"
    correct = configuration.read_text()
    configuration.write_text(correct + "limit: 3\n")
    status, shown = run("install", str(newer))
    assert status == 1
    assert "unknown key" in shown
    assert "Nothing that runs was changed" in shown
    assert version() == __version__
    assert not (root / "opt/fastlib/previous").exists()

    own = correct + "# my own line\n"
    configuration.write_text(own)
    status, shown = run("install", str(newer))
    assert status == 0, shown
    assert version() == "99.0"
    assert configuration.read_text() == own
    status, shown = run("status")
    assert re.fullmatch(
        rf"current: 99\.0-\w{{8}}\nprevious: {re.escape(__version__)}-\w{{8}}\n", shown
    )

    assert run("rollback")[0] == 0
    assert version() == __version__
    assert run("rollback")[0] == 0
    assert version() == "99.0"

    # An installation that was interrupted is made again.
    (release,) = (root / "opt/fastlib/releases").glob("99.0-*")
    (release / "deployment.json").unlink()
    status, shown = run("install", str(newer))
    assert status == 0, shown
    assert f"remove {release}" in shown
    assert version() == "99.0"

    (root / "var/lib/migfra/node01.journal").touch()
    status, shown = run("uninstall")
    assert status == 0
    left = [name for name in tree(root) if (root / name).is_file()]
    assert left == ["etc/migfra.yaml", "var/lib/migfra/node01.journal"]
    assert run("uninstall", "--purge")[0] == 0
    assert [name for name in tree(root) if (root / name).is_file()] == []


# --- a running system ---------------------------------------------------------------------------

UNSHARE = ("unshare", "--mount", "--pid", "--fork", "--propagation", "private")
SYSTEM = """\
set -eu
mount -t tmpfs tmpfs {folder}
cd {folder}
mkdir upper work system
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work system
for place in {places}; do
  mkdir -p "system$place"
  mount --bind "$place" "system$place"
done
mount --rbind /dev system/dev
mount -t proc proc system/proc
mount --rbind /sys system/sys
mount -t tmpfs tmpfs system/run
for folder in {entered}; do
  chmod o+x "system$folder"
done
exec chroot system sh -eu {script}
"""

LIVE = """\
# As the host is first installed, with the configuration of this test
python={python}
deploy="$python {deploy}"
getent group libvirt || groupadd --system libvirt
$deploy install {wheel} --find-links {wheels}
id -nG migfra
cat > /etc/migfra.yaml <<EOF
hostname: node01
communicator: {{type: mqtt, host: 127.0.0.1, port: {port}}}
hypervisor: {{type: dummy, never-throw: true}}
EOF
$deploy install {wheel} --find-links {wheels}
systemd-analyze verify /etc/systemd/system/migfra.service
grep -h -E '^(ExecStart|User|AmbientCapabilities)=' /etc/systemd/system/migfra.service \
  /etc/systemd/system/migfra.service.d/*.conf
stat -c '%U %a %n' /var/lib/migfra
getent passwd migfra

# The daemon, as the unit starts it
run_daemon() {{
  exec setpriv --reuid migfra --regid migfra --init-groups --no-new-privs \
    --bounding-set -all,+dac_override,+kill --inh-caps -all,+dac_override,+kill \
    --ambient-caps -all,+dac_override,+kill \
    env -i STATE_DIRECTORY=/var/lib/migfra RUNTIME_DIRECTORY=/run/migfra \
    $(sed -n 's/^ExecStart=//p' /etc/systemd/system/migfra.service)
}}
run_daemon &
daemon=$!
fastlib="/usr/local/bin/fastlib"
export FASTLIB_BROKER=127.0.0.1:{port}
$fastlib watch --host node01 --presence --count 1 --timeout 60
$fastlib start vm1 --host node01 --id first
ps -ww -o user=,cmd= -p $daemon
$fastlib quit --host node01 --timeout 60
wait $daemon

{ponci}
$deploy install {newer} --find-links {wheels}  # beside the daemon that runs
$fastlib quit --host node01 --timeout 60
wait $daemon
/usr/local/bin/migfra --version
$deploy rollback
/usr/local/bin/migfra --version
ls /var/lib/migfra
$deploy uninstall --purge
for place in /opt/fastlib /etc/migfra.yaml /var/lib/migfra /usr/local/bin/migfra \
  /etc/systemd/system/migfra.service /etc/systemd/system/migfra.service.d; do
  test ! -e $place
done
! getent passwd migfra
echo all is gone
"""

PONCI = """\
# The same with ponci, which makes cgroups and ends processes of other users
sed -i 's/^hypervisor: .*/hypervisor: {{type: ponci, parent: {group}}}/' /etc/migfra.yaml
$deploy check --online
run_daemon &
daemon=$!
$fastlib watch --host node01 --presence --count 1 --timeout 60
$fastlib start vm1 --host node01
sleep 1000 &
for file in $(find /sys/fs/cgroup -path '*/{group}/vm1/cgroup.procs'); do
  echo $! > $file
done
$fastlib stop vm1 --force --host node01
! wait $!
"""
WITHOUT_PONCI = """\
run_daemon &
daemon=$!
$fastlib watch --host node01 --presence --count 1 --timeout 60
"""


def can_make_systems() -> str | None:
    """Return why a copy of this system cannot be made and deployed to here, or None."""
    for program in ("unshare", "setpriv", "systemd-sysusers", "systemd-analyze"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            return f"{program} is not installed"
    if os.geteuid() != 0:
        return "it needs root"
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True)
    return None if done.returncode == 0 else "namespaces cannot be made here"


@pytest.fixture
def system_copy(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    if reason := can_make_systems():
        why = f"the deployment to a running system is not tested: {reason}"
        end_of_run.add_figure(request.node, "skipped", why)
        pytest.skip(why)
    folder = tmp_path / "system"
    folder.mkdir()
    return folder


@contextmanager
def removed_groups(name: str) -> Iterator[None]:
    """Remove the groups that a daemon has made for its domains."""
    try:
        yield
    finally:
        for folder in Path("/sys/fs/cgroup").glob(f"**/{name}"):
            folder.rmdir()


@pytest.mark.packaging
def test_running_host_is_installed_upgraded_and_restored(
    wheel: Path,
    wheels: Path,
    tmp_path: Path,
    system_copy: Path,
    offline_environment: dict[str, str],
    request: pytest.FixtureRequest,
) -> None:
    newer = reversioned(wheel, "99.0", tmp_path)
    python = Path(sys._base_executable)  # type: ignore[attr-defined]
    deployer = tmp_path / "migfra-deploy"
    shutil.copy(DEPLOY, deployer)
    script = tmp_path / "live.sh"
    group = f"deploy-{os.getpid()}"
    ponci = PONCI.format(group=group)
    if reason := why_not():
        end_of_run.add_figure(request.node, "skipped", f"ponci is not deployed: {reason}")
        ponci = WITHOUT_PONCI
    with Mosquitto(tmp_path / "broker") as broker, removed_groups(group):
        script.write_text(
            LIVE.format(
                python=python,
                deploy=deployer,
                wheel=wheel,
                newer=newer,
                wheels=wheels,
                port=broker.port,
                ponci=ponci,
            )
        )
        prefixes = {Path(sys.base_prefix), python.resolve().parents[1]}
        places = {tmp_path, wheels, wheel.parent} | prefixes
        entered = {folder for path in prefixes for folder in path.parents}
        system = SYSTEM.format(
            folder=system_copy,
            places=" ".join(map(str, sorted(places))),
            entered=" ".join(map(str, sorted(entered))),
            script=script,
        )
        done = subprocess.run(
            [*UNSHARE, "sh", "-c", system],
            env=offline_environment
            | {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    shown = textwrap.indent(done.stdout, "  ")
    assert done.returncode == 0, shown
    lines = done.stdout.splitlines()
    assert "ExecStart=/opt/fastlib/current/bin/migfra -c /etc/migfra.yaml" in lines, shown
    assert "User=migfra" in lines
    assert "migfra libvirt" in lines
    assert "migfra 700 /var/lib/migfra" in lines
    assert "node01 first vm started: vm1: success" in lines
    assert any(re.fullmatch(r"migfra +\S*python\S* .*/bin/migfra -c .*", line) for line in lines), (
        shown
    )
    versions = [line for line in lines if re.fullmatch(r"migfra [\d.]+", line)]
    assert versions == ["migfra 99.0", f"migfra {__version__}"]
    assert "node01.journal" in lines
    if ponci != WITHOUT_PONCI:
        assert "the hypervisor ponci can be opened" in lines
        assert "/etc/migfra.yaml: no problem found" in lines
        assert any(re.fullmatch(r"node01 \S+ vm stopped: vm1: success", line) for line in lines)
    assert lines[-1] == "all is gone"
