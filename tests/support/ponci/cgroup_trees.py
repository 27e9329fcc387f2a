"""The cgroups of this machine, read independently of ponci."""

import os
import signal
from contextlib import suppress
from pathlib import Path


class CgroupTrees:
    """The folders of one parent group, one for each tree that matters."""

    def __init__(self, parent: str) -> None:
        self.version, roots = _roots()
        self.roots = list(dict.fromkeys(roots))
        self.parents = [root / parent for root in self.roots]
        """The one with `cpuset` first."""

    def of(self, name: str) -> list[Path]:
        return [parent / name for parent in self.parents]

    def make(self, name: str) -> None:
        """Make a group in a domain, such as `vm1/below`, as a manager of containers does."""
        for folder in self.of(name):
            folder.mkdir()
            for file in ("cpuset.cpus", "cpuset.mems"):
                if self.version == "v1" and (folder / file).exists():
                    (folder / file).write_text((folder.parent / file).read_text())

    def join(self, pid: int, name: str) -> None:
        """Put a process into a domain, as an operator does."""
        for folder in self.of(name):
            (folder / "cgroup.procs").write_text(f"{pid}\n")

    def leave(self, pid: int) -> None:
        for root in self.roots:
            (root / "cgroup.procs").write_text(f"{pid}\n")

    def processes(self, name: str) -> set[int]:
        return {pid for folder in self.of(name) for pid in _processes(folder)}

    def threads(self, name: str) -> set[int]:
        file = "tasks" if self.version == "v1" else "cgroup.threads"
        return {int(id) for folder in self.of(name) for id in (folder / file).read_text().split()}

    def exists(self, name: str) -> bool:
        return any(folder.exists() for folder in self.of(name))

    def state(self, name: str) -> str:
        """`running`, `freezing` or `frozen`."""
        if self.version == "v1":
            state = (self.of(name)[-1] / "freezer.state").read_text().strip()
            return {"THAWED": "running"}.get(state, state.lower())
        (folder,) = self.of(name)
        if "frozen 1" in (folder / "cgroup.events").read_text():
            return "frozen"
        return "freezing" if self.wants_frozen(folder) else "running"

    @staticmethod
    def wants_frozen(folder: Path) -> bool:
        return (folder / "cgroup.freeze").read_text().strip() == "1"

    def freeze(self, name: str, frozen: bool) -> None:
        file, texts = self._freezer(name)
        file.write_text(texts[frozen])

    def thaw_command(self, name: str) -> str:
        file, texts = self._freezer(name)
        return f"echo {texts[False]} > {file}"

    def _freezer(self, name: str) -> tuple[Path, tuple[str, str]]:
        """The file that freezes a group, and the texts that thaw and freeze it."""
        group = self.of(name)[-1]
        if self.version == "v1":
            return group / "freezer.state", ("THAWED", "FROZEN")
        return group / "cgroup.freeze", ("0", "1")

    @property
    def unified(self) -> Path | None:
        """Where v2 is mounted, None if it is not."""
        for line in Path("/proc/mounts").read_text().splitlines():
            if line.split(" ")[2] == "cgroup2":
                return Path(line.split(" ")[1])
        return None

    def clear(self) -> None:
        """End all that runs below the parent, and remove it.

        After a check that has failed, its daemon may be about to do the same.
        """
        groups = [Path(folder) for parent in self.parents for folder, _, _ in os.walk(parent)]
        while sum(map(_end, groups)):
            os.sched_yield()
        for group in sorted(groups, reverse=True):  # those below before those above
            with suppress(FileNotFoundError):
                group.rmdir()


def _end(group: Path) -> bool:
    """Thaw a group and kill its processes. Return True if it had any."""
    for file, thawed in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        if (group / file).exists():
            (group / file).write_text(thawed)
    pids = _processes(group) if group.exists() else []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def _processes(folder: Path) -> list[int]:
    return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]


def _roots() -> tuple[str, list[Path]]:
    """The version, and where the trees are mounted."""
    of_v1: dict[str, Path] = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, options, *_ = line.split(" ")
        if kind == "cgroup2":
            controllers = Path(point, "cgroup.controllers").read_text().split()
            if "cpuset" in controllers:
                return "v2", [Path(point)]
        elif kind == "cgroup":
            of_v1.update(dict.fromkeys(options.split(","), Path(point)))
    return "v1", [of_v1["cpuset"], of_v1["freezer"]]


def why_not() -> str | None:
    """Why groups cannot be made here, or None."""
    try:
        _, roots = _roots()
        for root in roots:
            probe = root / f"fastlib-probe-{os.getpid()}"
            probe.mkdir()
            probe.rmdir()
    except KeyError as missing:
        return f"no cgroup has the controller {missing.args[0]} here; a kernel with it is needed"
    except OSError as error:
        return f"no cgroup can be made here ({error}); run the tests as root, with writable cgroups"
    return None
