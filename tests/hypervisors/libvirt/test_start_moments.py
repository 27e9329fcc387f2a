"""Starts with new disks that end at any moment: cancelled, expired, or killed with the daemon.

libvirt's driver `test` has the domain. It has no storage pools, so the images are in memory. A
moment is right before or right after a call of libvirt, or a note in the journal.
"""

import re

import pytest

from fastlib import NewDisk, Start
from fastlib.message.tasks import Query
from fastlib.migfra import Context, DaemonServices, TaskCancelledError, TaskExpiredError
from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.hypervisors.libvirt.connection.connection import Connection
from fastlib.migfra.hypervisors.libvirt.domain import volumes
from fastlib.migfra.hypervisors.libvirt.domain.volumes import Room
from fastlib.migfra.hypervisors.libvirt.tasks import new_disks_check, new_disks_room
from fastlib.migfra.plugin_api.cancellation import Cancellation
from fastlib.migfra.plugin_api.expiry import Expiry
from tests.support.clock import StoppedClock
from tests.support.libvirt.driver import domain, run_scenario

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
BEFORE = domain(memory=32768).replace("<memory", f"<uuid>{UUID}</uuid><memory")
MIB = 1 << 20
ENDS_AFTER = {"new": 30, "transient": 20, "defined": 30}
"""Moments that each kind of start has, at least."""


class Killed(BaseException):
    """The daemon ends at this moment."""


class Moments:
    """Counts the moments of a start, and acts at one of them."""

    def __init__(self):
        self.names = []
        self._at = None
        self._act = None

    def begin(self, at=None, act=None):
        self.names = []
        self._at, self._act = at, act

    def end(self):
        self._at = None

    def come(self, name):
        self.names.append(name)
        if self._at is not None and len(self.names) - 1 == self._at:
            self._act()


class Images:
    """The images of the host, in memory."""

    def __init__(self, monkeypatch):
        self.paths = set()
        for function in ("create_image", "remove_image", "remove_image_without_data", "has_data"):
            monkeypatch.setattr(volumes, function, getattr(self, function))
        monkeypatch.setattr(new_disks_check, "_DRIVERS", {"test"})
        monkeypatch.setattr(new_disks_check, "read_room", self.read_room)
        monkeypatch.setattr(new_disks_room, "read_room", self.read_room)

    def create_image(self, connection, image):
        assert image.path not in self.paths
        self.paths.add(image.path)

    def remove_image(self, connection, path):
        self.paths.remove(path)

    def remove_image_without_data(self, connection, image):
        self.paths.discard(image.path)
        return True

    def has_data(self, connection, image):
        return False

    def read_room(self, connection, folder, paths=()):
        rest = {path: MIB for path in paths if path in self.paths}
        return Room(total=1 << 40, free=1 << 30, rest=rest)


class Starting:
    """A host, and a start of a domain with two new disks."""

    def __init__(self, runner, kind, images, moments, folder):
        self.runner = runner
        self.runtime = runner.hypervisor._runtime
        self.kind = kind
        self.images = images
        self.moments = moments
        disks = [NewDisk(target=name, size=1) for name in ("vda", "vdb")]
        described = {"vm_name": "vm1"} if kind == "defined" else {"xml": domain()}
        self.task = Start(
            **described,
            transient=True if kind == "transient" else None,
            disks=None if kind == "transient" else disks,
            vcpu_map=[[0], [1]],
            probe_with_ssh=False,
        )
        self.all_images = set()
        if kind != "transient":  # it cannot have new disks
            self.all_images = {f"{folder}/vm1-{disk.target}.qcow2" for disk in disks}

    async def call(self, function):
        return await (await self.runtime.local()).call(lambda raw: function(raw) and None)

    async def definition(self):
        found = []
        await self.call(lambda raw: found.append(raw.lookupByName("vm1").XMLDesc(2)))
        return found[0]

    async def prepare(self):
        """Bring the host into the state of before."""
        if self.kind == "defined":
            await self.call(lambda raw: raw.defineXML(BEFORE))
        self.before = await self.definition() if self.kind == "defined" else None

    def context(self, **options):
        context = Context(
            "node01",
            services=DaemonServices(report=lambda facts: self.moments.come(facts.phase)),
            **options,
        )
        save = context.save_state

        def save_state(**values):
            self.moments.come("before a note")
            saved = save(**values)
            self.moments.come("after a note")
            return saved

        context.save_state = save_state
        return context

    async def run(self, context, at, act):
        """Run the start, and act at a moment. Returns what it raised, if anything."""
        self.moments.begin(at, act)
        try:
            await self.runner.do(self.task, context)
        except (HypervisorError, Killed) as error:
            return error
        finally:
            self.moments.end()
        return None

    async def recover(self, saved_state):
        """Finish the start in the next run of the daemon. Returns the details, or the error."""
        try:
            return await self.runner.recover(self.task, **saved_state)
        except HypervisorError as error:
            return error

    async def assert_started(self):
        assert await self.runner.state("vm1") == "running"
        assert self.images.paths == self.all_images
        assert self.runtime.new_images == {}
        await self.call(self._remove)
        self.images.paths.clear()

    def _remove(self, connection):
        found = connection.lookupByName("vm1")
        is_persistent = found.isPersistent()
        found.destroy()
        if is_persistent:
            found.undefine()

    async def assert_untouched(self):
        assert self.images.paths == set()
        assert self.runtime.new_images == {}
        if self.before is None:
            assert not (await self.runner.do(Query())).domains
        else:
            assert await self.runner.state("vm1") == "shut off"
            assert await self.definition() == self.before


@pytest.fixture(params=ENDS_AFTER)
def each_moment(request, tmp_path, monkeypatch):
    """Run a scenario once for each moment of a start, after one that nothing disturbs."""
    kind = request.param
    moments, images = Moments(), Images(monkeypatch)
    within = Connection.within

    async def watched(self, seconds, function, *arguments, **named):
        moments.come(f"before {function.__name__}")
        result = await within(self, seconds, function, *arguments, **named)
        moments.come(f"after {function.__name__}")
        return result

    monkeypatch.setattr(Connection, "within", watched)

    def run(scenario):
        async def main(runner):
            starting = Starting(runner, kind, images, moments, tmp_path / "images")
            await starting.prepare()
            assert await starting.run(starting.context(), None, None) is None
            names = list(moments.names)
            await starting.assert_started()
            assert len(names) > ENDS_AFTER[kind]
            for at, name in enumerate(names):
                await starting.prepare()
                await scenario(starting, at, name)

        (tmp_path / "images").mkdir()
        run_scenario(main, tmp_path, image_directory=str(tmp_path / "images"))

    return run


def test_start_that_is_cancelled_leaves_the_host_as_it_was_or_runs(each_moment):
    """It runs only if the cancellation comes after the last check, right before it may run."""
    late = []

    async def scenario(starting, at, name):
        cancellation = Cancellation()
        context = starting.context(cancellation=cancellation)
        error = await starting.run(context, at, cancellation.cancel)
        if error is None:
            late.append(name)
            await starting.assert_started()
            return
        assert type(error) is TaskCancelledError, name
        assert str(error) == "cancelled", name
        assert not late
        await starting.assert_untouched()

    each_moment(scenario)
    assert set(late) <= {"before run_on", "after run_on", "before a note", "after a note"}


def test_start_that_expires_before_it_has_begun_changes_nothing(each_moment):
    begun = []

    async def scenario(starting, at, name):
        clock = StoppedClock()
        context = starting.context(expiry=Expiry(clock.time + 1, clock=clock))
        error = await starting.run(context, at, lambda: setattr(clock, "time", clock.time + 1))
        if error is None:
            begun.append(name)
            await starting.assert_started()
            return
        assert type(error) is TaskExpiredError, name
        assert not begun
        await starting.assert_untouched()

    each_moment(scenario)
    assert begun[0] in ("before a note", "start")


def test_start_that_is_killed_is_finished_or_undone_by_the_next_run(each_moment):
    ends = []

    async def scenario(starting, at, name):
        def kill():
            raise Killed

        context = starting.context()
        assert type(await starting.run(context, at, kill)) is Killed
        details = await starting.recover(context.saved_state)
        if isinstance(details, HypervisorError):
            ends.append("undone")
            assert not re.search("could not|may be left|stays on", str(details)), name
            await starting.assert_untouched()
        else:
            ends.append("done")
            created = "; created vda" if starting.all_images else ""
            assert details.startswith(f"found done after the daemon's restart{created}"), name
            await starting.assert_started()

    each_moment(scenario)
    assert set(ends) == {"undone", "done"}
