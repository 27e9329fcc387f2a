"""Code that mypy must refuse: each line is marked with the code of its error.

`test_typing.py` runs mypy over it and compares; nothing here is ever executed.
"""

import fastlib
from fastlib import (
    Evacuate,
    EvacuateParameter,
    Message,
    Migrate,
    MigrateParameter,
    PciId,
    Quit,
    Report,
    Result,
    ResultContainer,
    Start,
    Stop,
    Suspend,
    SwapWith,
    Task,
    TaskContainer,
    TimeMeasurement,
)
from fastlib.client import MigfraClient
from fastlib.message import agent, mmbwmon, pscom, topics

# Members
Suspend("vm1")  # E: call-arg, arg-type
Suspend()  # E: call-arg
Suspend(vm="a")  # E: call-arg
Suspend(vm_name=None)  # E: arg-type
Suspend(vm_name=b"a")  # E: arg-type
Suspend(vm_name="a", concurrent_execution="yes")  # E: arg-type
Start(vm_name="a", vcpus="4")  # E: arg-type
Start(vm_name="a", vcpus=4.0)  # E: arg-type
Start(vm_name="a", vcpu_map=[1, 2])  # E: list-item
MigrateParameter(memnode_map=[0])  # E: list-item
Start(vm_name="a", vcpu_map={1, 2})  # E: arg-type
Start(vm_name="a", pci_ids=["15b3"])  # E: list-item
PciId(vendor="0x15b3", device=1)  # E: arg-type
Migrate(vm_name="a")  # E: call-arg
Migrate(vm_name="a", destination="b", parameter={"retry_counter": 1})  # E: arg-type
Migrate(vm_name="a", destination="b", parameter=EvacuateParameter())  # E: arg-type
MigrateParameter(migration_type="lve")  # E: arg-type
MigrateParameter(swap_with="vm2")  # E: arg-type
EvacuateParameter(mode="Auto")  # E: arg-type
SwapWith(vm_name="a", vcpus=1)  # E: call-arg
Evacuate(destinations=[1])  # E: list-item
Result(vm_name="a", status="good")  # E: arg-type
Result(vm_name="a", status="error", time_measurement={"overall": 1.0})  # E: arg-type
agent.Configuration(source="a", status="maybe")  # E: arg-type
agent.Kpis(categories=[("io", "high")], repeat=1)  # E: arg-type
mmbwmon.Reply(cores=[0])  # E: call-arg
pscom.PscomRequest(request="stop")  # E: arg-type

# Containers
TaskContainer(tasks=Quit())  # E: arg-type
TaskContainer(tasks=["quit"])  # E: list-item
TaskContainer(tasks=[Result(vm_name="a", status="error")])  # E: list-item
TaskContainer(task="quit")  # E: call-arg
ResultContainer(result="quit", results=[Quit()])  # E: list-item
ResultContainer.answer([Quit()], [])  # E: arg-type

# What does not change
stop = Stop(vm_name="a")
stop.vm_name = "b"  # E: misc
print(stop.vm_nmae)  # E: attr-defined

# Reading and writing
start: Start = Stop.from_yaml("vm-name: a")  # E: assignment
container: TaskContainer = fastlib.load("task: quit")  # E: assignment
Stop.from_yaml({"vm-name": "a"})  # E: arg-type
Stop.from_yaml("vm-name: a", unknown="eror")  # E: arg-type
Stop.from_yaml("vm-name: a", limits=10)  # E: arg-type
stop.to_yaml(style="json")  # E: arg-type
fastlib.load(1)  # E: arg-type
fastlib.validate("task: quit", str)  # E: arg-type
report: Report = fastlib.validate_all("task: quit")  # E: assignment
TimeMeasurement(timings={"overall": 1.0})  # E: dict-item
topics.TASK(1)  # E: arg-type
host: str = topics.TASK.parse("a")  # E: assignment


# Own messages
class Required(Task, task="required", result="required done"):
    size: int


class Titled(Message, task="titled"):
    text: str = 1  # E: assignment


Required(size="1")  # E: arg-type
Required()  # E: call-arg


# The client
def schedule(client: MigfraClient) -> None:
    client.migrate("vm1", "hostA", "hostB", migration_type="lve")  # E: arg-type
    client.migrate("vm1", "hostA", "hostB", downtime=1)  # E: call-arg
    client.suspend("hostA")  # E: call-arg
    client.submit("hostA", "quit")  # E: arg-type
    topics.TASK(client.query("hostA").result())  # E: arg-type
