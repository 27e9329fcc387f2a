#!/usr/bin/env python3
"""Install the migration daemon on one host, upgrade it, and go back: see docs/how-to/deploy.md.

It needs Python 3.11 with venv, and systemd. A copy of it, `migfra-deploy`, runs on hosts without
fastlib, so it imports only the standard library.

    /opt/fastlib/releases/NAME    a virtual environment for each release
    /opt/fastlib/current          a link to the release that runs
    /opt/fastlib/previous         a link to the release before it
    /usr/local/bin/migfra         a link to the program of the current release; fastlib, too
    /etc/migfra.yaml              the configuration, which is never overwritten
    /etc/systemd/system/migfra.service, and its drop-in migfra.service.d/10-user.conf
    /etc/sysusers.d/migfra.conf   the user of the daemon
    /var/lib/migfra               the journal, which is never touched
"""

from __future__ import annotations  # an older Python must come as far as the line that refuses it

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - it runs by whatever Python the host has
    sys.exit(
        f"migfra-deploy: error: this needs Python 3.11 or newer, and {sys.executable} is older"
    )

BASE = "/opt/fastlib"
RELEASES = f"{BASE}/releases"
CURRENT = f"{BASE}/current"
PREVIOUS = f"{BASE}/previous"
CONFIGURATION = "/etc/migfra.yaml"
UNIT = "/etc/systemd/system/migfra.service"
DROP_IN = f"{UNIT}.d/10-user.conf"
SYSUSERS = "/etc/sysusers.d/migfra.conf"
JOURNAL = "/var/lib/migfra"
LOGS = "/var/log/migfra"
RUNTIME = "/run/migfra"
WANTED = "/etc/systemd/system/multi-user.target.wants/migfra.service"
PROGRAMS = ("migfra", "fastlib")
RECORD = "deployment.json"
"""The file of a release that is complete, with what was installed."""

USER_OF_UNIT = "root"
USER = "migfra"
WHEEL = re.compile(r"fastlib_migfra-([\w.+!]+)-[\w.]+-[\w.]+-[\w.]+\.whl")

_DROP_IN = """\
# Made by migfra-deploy. Own settings belong into other drop-ins: systemctl edit migfra
[Service]
User={user}
# Root has these two without this line. The unit gives the reasons.
AmbientCapabilities={capabilities}
"""
_SYSUSERS = """\
# Made by migfra-deploy: the user of the migration daemon, with a home for its ssh keys.
u {user} - "FaST migration daemon" {home}
"""
_SYSUSERS_LIBVIRT = """\
# libvirt's socket is open to this group.
m {user} libvirt
"""
CAPABILITIES = ("dac_override", "kill")


class DeployError(Exception):
    """A step cannot be done; the text says why, and what to do."""


class Host:
    """The files of a host below a root folder. Each change is printed; a dry run makes none."""

    def __init__(self, root: Path, dry_run: bool) -> None:
        self.root = root
        self.dry_run = dry_run
        self.changes = 0

    @property
    def is_live(self) -> bool:
        """Whether this is the running system, and not an image of one below a folder."""
        return self.root == Path("/")

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def announce(self, text: str) -> bool:
        """Print a change. Return whether to make it."""
        self.changes += 1
        print(f"{'would ' if self.dry_run else ''}{text}", flush=True)
        return not self.dry_run

    def write(self, name: str, text: str) -> None:
        path = self.path(name)
        if path.is_file() and path.read_text("utf-8", "replace") == text:
            return
        if self.announce(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _replacing(path) as new:
                new.write_text(text, "utf-8")
                new.chmod(0o644)

    def link(self, name: str, target: str) -> None:
        """Make a link, or turn it to another target in one step."""
        path = self.path(name)
        if path.is_symlink() and os.readlink(path) == target:
            return
        if self.announce(f"link {path} -> {target}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with _replacing(path) as new:
                new.unlink()
                new.symlink_to(target)

    def remove(self, name: str) -> None:
        path = self.path(name)
        if os.path.lexists(path) and self.announce(f"remove {path}"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    @property
    def is_booted(self) -> bool:
        """Whether systemd runs here: not in an image, a chroot or a container without it."""
        return self.is_live and Path("/run/systemd/system").is_dir()

    def run(self, *command: str) -> None:
        if self.announce(f"run {shlex.join(command)}"):
            _run(command)

    def own(self, name: str, user: str) -> None:
        """Make a private folder, and give it to the daemon's user as systemd would."""
        path = self.path(name)
        if not path.is_dir() and self.announce(f"make {path}"):
            path.mkdir(mode=0o700, parents=True)
        if not self.is_live or not path.is_dir():
            return
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise DeployError(
                f"there is no user {user}: make one, or choose another by --user"
            ) from None
        if path.stat().st_uid != entry.pw_uid and self.announce(f"give {path} to {user}"):
            for each in [path, *path.rglob("*")]:
                os.chown(each, entry.pw_uid, entry.pw_gid, follow_symlinks=False)

    def target(self, name: str) -> str | None:
        """Return the name of the release that a link of BASE leads to, or None."""
        path = self.path(name)
        return Path(os.readlink(path)).name if path.is_symlink() else None


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield an empty file that takes the place of another one in one step."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(descriptor)
    new = Path(name)
    try:
        yield new
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the words are those of this program
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except OSError as error:
        raise DeployError(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip())[-4000:]
        raise DeployError(f"{shlex.join(command)} failed with status {done.returncode}:\n{said}")


# --- install and upgrade --------------------------------------------------------------------------


def install(host: Host, options: argparse.Namespace) -> None:
    wheel = Path(options.wheel)
    parts = WHEEL.fullmatch(wheel.name)
    if parts is None:
        raise DeployError(f"{wheel}: expected the name of a wheel, fastlib_migfra-VERSION-….whl")
    try:
        digest = hashlib.sha256(wheel.read_bytes())
        unit, sample = _from_wheel(wheel, "migfra.service"), _from_wheel(wheel, "migfra.yaml")
    except (OSError, zipfile.BadZipFile) as error:
        raise DeployError(f"{wheel} cannot be read: {error}") from None
    try:
        versions = Path(options.constraint).read_text("utf-8") if options.constraint else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{options.constraint} cannot be read: {error}") from None
    chosen = json.dumps([sys.version, options.extras, sorted(options.packages), versions])
    digest.update(chosen.encode())
    name = f"{parts[1]}-{digest.hexdigest()[:8]}"
    old = host.target(CURRENT)
    _make_release(host, name, wheel, unit, options)
    if not host.path(CONFIGURATION).exists():
        host.write(CONFIGURATION, sample)
    _make_user(host, options.user)
    _check(host, name, options.user, options.no_check)
    _activate(host, name, options.user)
    if old is not None and old != name:
        host.link(PREVIOUS, f"releases/{old}")
    _remove_old_releases(host, {name, host.target(PREVIOUS), old})
    if not host.changes:
        print(f"{name} is installed already: nothing to do")
    elif host.dry_run:
        does = "installs" if old is None else "upgrades to"
        print(f"nothing is changed; without --dry-run this {does} {name}")
    elif old is None:
        print(
            f"installed {name}. Next: edit {CONFIGURATION}; {sys.argv[0]} check --online; "
            "systemctl enable --now migfra"
        )
    elif old != name:
        print(f"upgraded from {old} to {name}. The way back: {sys.argv[0]} rollback")


def _from_wheel(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        try:
            return archive.read(f"fastlib/files/data/{name}").decode()
        except KeyError:
            raise DeployError(f"{wheel} has no {name}: choose a newer wheel") from None


def _make_release(
    host: Host, name: str, wheel: Path, unit: str, options: argparse.Namespace
) -> None:
    """Make the virtual environment of a release, unless it is there and complete."""
    folder = host.path(f"{RELEASES}/{name}")
    if (folder / RECORD).is_file():
        return
    if host.is_live and options.user != USER_OF_UNIT:
        _check_python(options.user)
    host.remove(f"{RELEASES}/{name}")  # an installation that was interrupted
    if not host.announce(f"install {wheel.name} with {options.extras or 'no extras'} in {folder}"):
        return
    extras = f"[{options.extras}]" if options.extras else ""
    index = ["--no-index", f"--find-links={options.find_links}"] if options.find_links else []
    if options.constraint:
        index.append(f"--constraint={options.constraint}")
    try:
        _run([_python(), "-m", "venv", str(folder)])
    except DeployError as error:
        raise DeployError(f"{error}\nDebian has venv in the package python3-venv") from None
    requirement = f"fastlib-migfra{extras} @ {wheel.resolve().as_uri()}"
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    _run([*pip, "--disable-pip-version-check", *index, requirement, *options.packages])
    if not host.is_live:
        _move_scripts(folder / "bin", host.root)
    (folder / "migfra.service").write_text(unit)
    record = {"wheel": wheel.name, "extras": options.extras, "packages": options.packages}
    (folder / RECORD).write_text(json.dumps(record) + "\n")


def _python() -> str:
    """Return the Python that runs this, not that of a virtual environment around it."""
    return str(getattr(sys, "_base_executable", sys.executable))


def _check_python(user: str) -> None:
    """Raise DeployError if the daemon's user could not start this Python, as one below /root."""
    for path in (Path(_python()), Path(_python()).resolve()):
        for folder in path.parents:
            if not folder.stat().st_mode & 0o001:
                raise DeployError(
                    f"{user} may not enter {folder}, and the daemon would need {path}: run this "
                    "by a Python for all users, such as /usr/bin/python3"
                )


def _move_scripts(folder: Path, root: Path) -> None:
    """Let the programs of an environment find it where the image's root will be `/`."""
    for path in [*folder.iterdir(), folder.parent / "pyvenv.cfg"]:
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if b"\0" not in data:
                path.write_bytes(data.replace(f"{root}{BASE}".encode(), BASE.encode()))


def _make_user(host: Host, user: str) -> None:
    """Make the user now, or let systemd make it when an image boots."""
    if user == USER_OF_UNIT:
        host.remove(SYSUSERS)
        return
    before = host.changes
    text = _SYSUSERS.format(user=user, home=JOURNAL)
    if re.search(r"^libvirt:", _text(host.path("/etc/group")), re.MULTILINE):
        text += _SYSUSERS_LIBVIRT.format(user=user)
    host.write(SYSUSERS, text)
    if host.changes != before and host.is_live:
        host.run("systemd-sysusers", SYSUSERS)


def _check(host: Host, name: str, user: str, skipped: bool) -> None:
    """Let the release check the configuration as the daemon's user. Raises DeployError."""
    if host.dry_run:
        return
    host.own(JOURNAL, user)
    if skipped:
        return
    with _as_daemon(host, name, user) as (command, environment):
        try:
            _run(command, environment)
        except DeployError as error:
            raise DeployError(
                f"{error}\nNothing that runs was changed. Correct {host.path(CONFIGURATION)} and "
                "repeat this, or add --no-check"
            ) from None


@contextlib.contextmanager
def _as_daemon(host: Host, name: str, user: str) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yield the command and the environment of a check with the user and rights of the unit."""
    python = host.path(f"{RELEASES}/{name}/bin/python")
    configuration = host.path(CONFIGURATION)
    command = [str(python), "-I", "-m", "fastlib.cli.migfra", "--check", "-c", str(configuration)]
    if host.is_live and user != USER_OF_UNIT:
        capabilities = ",".join(f"+{name}" for name in CAPABILITIES)
        rights = [f"--{kind}-caps={capabilities}" for kind in ("inh", "ambient")]
        group = pwd.getpwnam(user).pw_gid
        ids = [f"--reuid={user}", f"--regid={group}", "--init-groups"]
        command = ["setpriv", *ids, *rights, *command]
    with tempfile.TemporaryDirectory() as temporary:
        runtime = Path(temporary)
        if host.is_live:
            runtime = host.path(RUNTIME)
            host.own(RUNTIME, user)
        yield (
            command,
            {
                "PATH": f"{os.defpath}:/sbin:/usr/sbin",
                "LC_ALL": "C.UTF-8",
                "STATE_DIRECTORY": str(host.path(JOURNAL)),
                "RUNTIME_DIRECTORY": str(runtime),
            },
        )


def _activate(host: Host, name: str, user: str) -> None:
    """Let the unit, the links and the running daemon use a release."""
    release = host.path(f"{RELEASES}/{name}")
    before = host.changes
    if (release / "migfra.service").is_file():
        host.write(UNIT, _unit((release / "migfra.service").read_text()))
    else:
        host.announce(f"write {host.path(UNIT)}")  # in a dry run
    if user == USER_OF_UNIT:
        host.remove(DROP_IN)
    else:
        names = " ".join(f"CAP_{name.upper()}" for name in CAPABILITIES)
        host.write(DROP_IN, _DROP_IN.format(user=user, capabilities=names))
    host.link(CURRENT, f"releases/{name}")
    for program in PROGRAMS:
        _link_program(host, program)
    if host.changes != before and host.is_booted:
        host.run("systemctl", "daemon-reload")
        # The start can wait for the broker for ever; a daemon that does not run is not started.
        host.run("systemctl", "try-restart", "--no-block", "migfra.service")


def _unit(text: str) -> str:
    start, program = "ExecStart=/usr/bin/env migfra ", f"ExecStart={CURRENT}/bin/migfra "
    if start not in text:
        raise DeployError(f"the unit has no line {start!r}: choose another wheel")
    title = (
        "# Made by migfra-deploy. Own settings belong into drop-ins: systemctl edit migfra\n"
        "# The user is in migfra.service.d/10-user.conf. Without that file it is root.\n"
    )
    return title + text.replace(start, program)


def _link_program(host: Host, program: str) -> None:
    name, target = f"/usr/local/bin/{program}", f"{CURRENT}/bin/{program}"
    path = host.path(name)
    if os.path.lexists(path) and not (path.is_symlink() and os.readlink(path) == target):
        print(f"{path} is left as it is: it is not of this installation", file=sys.stderr)
        return
    host.link(name, target)


def _remove_old_releases(host: Host, kept: set[str | None]) -> None:
    folder = host.path(RELEASES)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.name not in kept:
            host.remove(f"{RELEASES}/{path.name}")


# --- the other commands ---------------------------------------------------------------------------


def rollback(host: Host, options: argparse.Namespace) -> None:
    """Go back to the previous release; a second time, go forward again."""
    current, previous = host.target(CURRENT), host.target(PREVIOUS)
    if current is None or previous is None:
        raise DeployError(f"there is no previous release: {host.path(PREVIOUS)} does not exist")
    if not (host.path(f"{RELEASES}/{previous}") / RECORD).is_file():
        raise DeployError(f"the release {previous} is not complete: install it again")
    user = _user_of_daemon(host)
    _check(host, previous, user, options.no_check)
    _activate(host, previous, user)
    host.link(PREVIOUS, f"releases/{current}")
    print(f"went back from {current} to {previous}")


def check(host: Host, options: argparse.Namespace) -> None:
    """Let the current release check the configuration with the rights of the daemon."""
    current = host.target(CURRENT)
    if current is None:
        raise DeployError("nothing is installed: there is no release to check with")
    with _as_daemon(host, current, _user_of_daemon(host)) as (command, environment):
        online = ["--online"] if options.online else []
        done = subprocess.run([*command, *online], env=environment, stdin=subprocess.DEVNULL)  # noqa: S603
    if done.returncode:
        raise DeployError("the daemon could not start like this: see above")
    print(f"{host.path(CONFIGURATION)}: no problem found")


def _user_of_daemon(host: Host) -> str:
    found = re.search(r"^User=(.+)$", _text(host.path(DROP_IN)), re.MULTILINE)
    return found[1] if found else USER_OF_UNIT


def _text(path: Path) -> str:
    return path.read_text("utf-8", "replace") if path.is_file() else ""


def uninstall(host: Host, options: argparse.Namespace) -> None:
    """Remove the programs. The configuration, the journal and the user stay, unless purged."""
    if host.path(UNIT).exists() and host.is_booted:
        host.run("systemctl", "disable", "--now", "migfra.service")
    host.remove(WANTED)  # what `systemctl enable` has made
    found = re.search(r"^u (\S+)", _text(host.path(SYSUSERS)), re.MULTILINE)
    for name in (DROP_IN, UNIT, SYSUSERS):
        host.remove(name)
    with contextlib.suppress(OSError):  # it has drop-ins of the operator
        host.path(DROP_IN).parent.rmdir()
    for program in PROGRAMS:
        path = host.path(f"/usr/local/bin/{program}")
        if path.is_symlink() and os.readlink(path).startswith(f"{CURRENT}/"):
            host.remove(f"/usr/local/bin/{program}")
    host.remove(BASE)
    if options.purge:
        for name in (CONFIGURATION, JOURNAL, LOGS):
            host.remove(name)
        if found and host.is_live:
            host.run("userdel", found[1])
    if not host.changes:
        print("nothing is installed")
    elif host.is_booted:
        host.run("systemctl", "daemon-reload")


def status(host: Host, _: argparse.Namespace) -> None:
    """Print the releases."""
    current, previous = host.target(CURRENT), host.target(PREVIOUS)
    print(f"current: {current or 'none'}\nprevious: {previous or 'none'}")


# --- the command line -----------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--dry-run", action="store_true", help="print the changes and make none")
    common.add_argument(
        "--root",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="the root of an image; no program is started or stopped there",
    )
    parser = argparse.ArgumentParser(
        prog="migfra-deploy",
        description=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: object, summary: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, parents=[common], help=summary, description=f"{summary[0].upper()}{summary[1:]}."
        )
        command.set_defaults(run=run)
        return command

    command = add("install", install, "install a wheel, or upgrade to it")
    command.add_argument("wheel", metavar="WHEEL", help="fastlib_migfra-VERSION-py3-none-any.whl")
    command.add_argument(
        "--extras",
        default="migfra",
        metavar="A,B",
        help="extras of the wheel, such as libvirt,metrics (default: %(default)s)",
    )
    command.add_argument(
        "--with",
        dest="packages",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="another package for the same environment, such as a hypervisor of your own",
    )
    command.add_argument(
        "--user", default=USER, help="the daemon's user, made if missing (default: %(default)s)"
    )
    command.add_argument(
        "--find-links", metavar="DIR", help="take all packages from a folder of wheels"
    )
    command.add_argument("--constraint", metavar="FILE", help="versions of packages, for pip")
    back = add("rollback", rollback, "go back to the previous release")
    for each in (command, back):
        each.add_argument(
            "--no-check", action="store_true", help="do not check the configuration before"
        )
    command = add("check", check, "check the configuration with the user and rights of the daemon")
    command.add_argument(
        "--online",
        action="store_true",
        help="also query the broker and the hypervisor; the daemon must not run",
    )
    command = add("uninstall", uninstall, "remove the programs, and keep configuration and journal")
    command.add_argument(
        "--purge",
        action="store_true",
        help="also remove the configuration, the journal, logs and the user; an order that comes "
        "again is then executed again",
    )
    add("status", status, "print the installed releases")
    return parser


@contextlib.contextmanager
def _lock(host: Host) -> Iterator[None]:
    """Refuse to run beside another one on the same host."""
    if host.dry_run:
        yield
        return
    folder = host.path("/run/lock") if host.is_live else host.root
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise DeployError("another migfra-deploy runs on this host; wait for its end") from None
    finally:
        os.close(descriptor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status: 0, 1 if a step failed, 2 for wrong usage."""
    options = _parser().parse_args(arguments)
    host = Host(options.root.absolute(), options.dry_run)
    os.umask(0o022)
    try:
        if host.is_live and not host.dry_run and os.geteuid() != 0:
            raise DeployError("this needs root: run it by sudo, or try it with --dry-run")
        with _lock(host):
            options.run(host, options)
    except DeployError as error:
        print(f"migfra-deploy: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"migfra-deploy: error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
