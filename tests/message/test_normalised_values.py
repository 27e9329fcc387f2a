"""Values that a message stores in another form than they were given."""

import pytest

from fastlib import (
    Evacuate,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    PciAddress,
    PciId,
    Quit,
    Repin,
    Result,
    ResultContainer,
    Start,
    Suspend,
    TaskContainer,
    TimeMeasurement,
)
from fastlib.message.agent import (
    KpiReport,
    Kpis,
)
from fastlib.message.mmbwmon import Request
from tests.support.problems import refusal


def test_lists_become_tuples():
    start = Start(
        vm_name="a",
        vcpu_map=[[0, 1], (2,)],
        memnode_map=([0],),
        pci_ids=[PciId(vendor=1, device=2)],
        devs=[PciAddress(bus=1, device=2, function=3)],
    )
    assert start.vcpu_map == ((0, 1), (2,))
    assert start.memnode_map == ((0,),)
    assert start.pci_ids == (PciId(vendor=1, device=2),)
    assert start.devs == (PciAddress(bus=1, device=2, function=3),)
    assert start == Start.from_yaml(start.to_yaml())
    assert Evacuate(destinations=["a", "b"]).destinations == ("a", "b")
    assert TaskContainer(tasks=[Quit()]).tasks == (Quit(),)
    assert Request(cores=range(3)).cores == (0, 1, 2)


def test_change_of_an_argument_does_not_change_the_message():
    row, categories, values = [0], {"a": "high"}, {"cpu": ["1"]}
    repin = Repin(vm_name="a", vcpu_map=[row])
    kpis = Kpis(categories=categories, repeat=1)
    report = KpiReport(source="a", kpis=values)
    row.append(1)
    categories["b"] = "low"
    values["cpu"].append("2")
    assert repin.vcpu_map == ((0,),)
    assert kpis.categories == {"a": "high"}
    assert report.kpis == {"cpu": ["1"]}


def test_change_of_an_emitted_tree_does_not_change_the_message():
    container = TaskContainer(tasks=[Repin(vm_name="a", vcpu_map=[[0]])])
    container.emit()["vcpu-map"][0].append(1)
    report = KpiReport(source="a", kpis={"cpu": ["1"]})
    report.emit()["KPIS"]["cpu"].append("2")
    assert container.emit()["vcpu-map"] == [[0]]
    assert report.kpis == {"cpu": ["1"]}


@pytest.mark.parametrize(
    ("given", "absent"),
    [
        (TaskContainer(tasks=[Quit()], id=""), TaskContainer(tasks=[Quit()])),
        (ResultContainer(result="quit", results=[], id=""),
         ResultContainer(result="quit", results=[])),
        (Result(vm_name="a", status="error", details=""), Result(vm_name="a", status="error")),
        (Result(vm_name="a", status="error", time_measurement=TimeMeasurement()),
         Result(vm_name="a", status="error")),
        (Start(vm_name="a", pci_ids=[], devs=()), Start(vm_name="a")),
        (Migrate(vm_name="a", destination="b", parameter=MigrateParameter()),
         Migrate(vm_name="a", destination="b")),
        (Evacuate(destinations=["b"], parameter=EvacuateParameter()),
         Evacuate(destinations=["b"])),
    ],
)  # fmt: skip
def test_empty_value_counts_as_absent(given, absent):
    assert given == absent
    assert given.to_yaml() == absent.to_yaml()
    assert hash(given) == hash(absent)


@pytest.mark.parametrize(
    ("type", "text", "message"),
    [
        (TaskContainer, "task: quit\nid: ''", TaskContainer(tasks=[Quit()])),
        (Start, "vm-name: a\npci-ids: []\ndevs: []", Start(vm_name="a")),
        (Migrate, "vm-name: a\ndestination: b\nparameter: {}",
         Migrate(vm_name="a", destination="b")),
        (Result, "vm-name: a\nstatus: error\ndetails: ''\ntime-measurement: {}",
         Result(vm_name="a", status="error")),
    ],
)  # fmt: skip
def test_empty_value_in_a_text_counts_as_absent(type, text, message):
    assert type.from_yaml(text) == message


def test_empty_cpu_map_is_kept():
    assert Start(vm_name="a", vcpu_map=[]) != Start(vm_name="a")
    assert Start(vm_name="a", vcpu_map=[]).to_yaml() == "---\nvm-name: a\nvcpu-map: []\n---"
    assert Suspend(vm_name="").to_yaml() == '---\nvm-name: ""\n---'


def test_free_values_become_text_of_the_wire():
    report = KpiReport(source="a", kpis={"n": 1, "f": 0.5, "b": True, "l": (1, None), "m": {}})
    assert report.kpis == {"n": "1", "f": "0.5", "b": "true", "l": ["1", None], "m": {}}
    assert KpiReport.from_yaml(report.to_yaml()) == report
    assert KpiReport.load(report.emit()) == report
    values = []
    values.append(values)
    assert refusal(lambda: KpiReport(source="a", kpis=values))[0][0] == "KPIS"
