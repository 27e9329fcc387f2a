"""The daemon as a process that is killed while a domain freezes, and its next run."""

import pytest

from fastlib import Result, ResultContainer, Resume, Start, Stop, Suspend, Task, TaskContainer
from fastlib.message import topics
from fastlib.transport import MqttOptions, connect
from tests.support.migfra.program import program
from tests.support.mosquitto import PATIENCE, Mosquitto
from tests.support.ponci.cgroup_trees import CgroupTrees
from tests.support.ponci.parent_groups import parent_name
from tests.support.ponci.workload import Counter, Stuck
from tests.support.waiting import wait_until

pytestmark = pytest.mark.cgroups


class Scheduler:
    def __init__(self, communicator):
        self._communicator = communicator
        self._answered: set[str] = set()
        communicator.subscribe(topics.RESULT("node01"))

    def send(self, task: Task, id: str) -> None:
        payload = TaskContainer(tasks=[task], id=id).to_yaml().encode()
        self._communicator.send(payload, topics.TASK("node01"), qos=2)

    def result(self, id: str) -> Result:
        """Return the result with that id. Skip those that a killed daemon sends a second time."""
        while True:
            message = self._communicator.receive(topics.RESULT("node01"), timeout=PATIENCE)
            answer = ResultContainer.from_yaml(message.payload)
            if answer.id not in self._answered:
                assert answer.id == id
                self._answered.add(id)
                return answer.results[0]

    def do(self, task: Task, id: str) -> Result:
        self.send(task, id)
        return self.result(id)


@pytest.fixture
def place(tmp_path):
    """A daemon over a broker, with a separate parent group, and a scheduler."""
    parent = parent_name("killed")
    trees = CgroupTrees(parent)
    with Mosquitto(tmp_path / "broker") as broker, program(tmp_path, broker.port) as migfra:
        text = migfra.configuration.read_text().splitlines(keepends=True)
        text = [line for line in text if not line.startswith("hypervisor:")]
        ponci = f"hypervisor: {{type: ponci, parent: {parent}, freeze-timeout: 3600}}\n"
        migfra.configuration.write_text("".join(text) + ponci)
        options = MqttOptions(
            host="127.0.0.1", port=broker.port, client_id="scheduler", persistent=True
        )
        with connect(options) as communicator:
            migfra.start()
            try:
                yield migfra, Scheduler(communicator), trees
            finally:
                migfra.kill()
                trees.clear()


@pytest.mark.parametrize("end", ["frozen meanwhile", "freezing still"])
def test_daemon_killed_during_freeze_recovers_the_task(place, tmp_path, end):
    migfra, scheduler, trees = place
    with Stuck() as stuck, Counter(tmp_path) as counter:
        assert scheduler.do(Start(vm_name="vm1"), "start").status == "success"
        for each in (stuck, counter):
            trees.join(each.pid, "vm1")
        stuck.wait()
        wait_until(lambda: stuck.is_stuck, "a process that cannot freeze")
        scheduler.send(Suspend(vm_name="vm1"), "suspend")
        wait_until(lambda: trees.state("vm1") == "freezing", "a domain that is being frozen")
        migfra.kill()
        if end == "frozen meanwhile":
            stuck.release()
            wait_until(lambda: trees.state("vm1") == "frozen", "a frozen domain")
            migfra.start()
        else:
            migfra.start()
            assert trees.state("vm1") == "freezing"
            stuck.release()
        result = scheduler.result("suspend")
        assert result.status == "success"
        assert result.details == "found done after the daemon's restart"
        assert trees.state("vm1") == "frozen"
        assert scheduler.do(Resume(vm_name="vm1"), "resume").details is None
        now = counter.count
        wait_until(lambda: counter.count > now, "a process that runs again")
        assert scheduler.do(Stop(vm_name="vm1", force=True), "stop").status == "success"
        assert not trees.exists("vm1")


def test_domains_outlast_the_daemon(place, tmp_path):
    migfra, scheduler, trees = place
    with Counter(tmp_path) as counter:
        scheduler.do(Start(vm_name="vm1", vcpu_map=[[0]]), "start")
        trees.join(counter.pid, "vm1")
        assert scheduler.do(Suspend(vm_name="vm1"), "suspend").status == "success"
        migfra.kill()
        migfra.start()
        assert trees.state("vm1") == "frozen"
        assert scheduler.do(Resume(vm_name="vm1"), "resume").status == "success"
        assert counter.allowed("Cpus") == "0"
        assert migfra.terminate() == 0
        assert counter.runs
        migfra.start()
        assert scheduler.do(Stop(vm_name="vm1", force=True), "stop").status == "success"
