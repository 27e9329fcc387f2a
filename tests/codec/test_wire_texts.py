"""Messages on the wire: the texts, the titles that identify their types, and the trees."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

import fastlib
from fastlib import (
    Cancel,
    DeviceIvshmem,
    DomainReport,
    Evacuate,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    NodeReport,
    NodeResult,
    PciAddress,
    PciId,
    Query,
    Quit,
    Repin,
    Result,
    ResultContainer,
    Resume,
    Start,
    Stop,
    Suspend,
    SwapWith,
    TaskContainer,
    TaskReport,
    TimeMeasurement,
    Timing,
    ValidationError,
)
from fastlib.message.agent import (
    Configuration,
    Init,
    InitAgent,
    JobDescription,
    KpiReport,
    Kpis,
    StopMonitoring,
)
from fastlib.message.application import ApplicationKpis, ApplicationStatus
from fastlib.message.mmbwmon import Ack, Reply, Request, Restart, SystemInfo
from fastlib.message.mmbwmon import Stop as StopGroup
from fastlib.message.node import Presence, Progress
from fastlib.message.pscom import PscomRequest

# The texts have the C++ peers' keys in the C++ peers' order. What is quoted here and plain there
# is what other YAML readers would take for no text.
WIRE = {
    "quit": (TaskContainer(tasks=[Quit()]), "---\ntask: quit\n---"),
    "start": (
        TaskContainer(
            tasks=[
                Start(
                    vm_name="vm1",
                    driver="qemu",
                    concurrent_execution=False,
                    time_measurement=True,
                    vcpus=4,
                    memory=4194304,
                    memnode_map=[[0], [1]],
                    xml="<domain/>",
                    ivshmem=DeviceIvshmem(id="shm", size="64M", path="/dev/shm/a"),
                    transient=True,
                    pci_ids=[PciId(vendor=0x15B3, device=0x1004), PciId(vendor=1, device=2)],
                    devs=[PciAddress(bus=1, device=2, function=3)],
                    vcpu_map=[[0, 1], [2]],
                    probe_with_ssh=False,
                    probe_hostname="vm1-ib",
                ),
                Start(vm_name="vm2"),
            ],
            concurrent_execution=True,
            id="task-1",
        ),
        """\
---
task: start vm
vm-configurations:
  - concurrent-execution: false
    time-measurement: true
    driver: qemu
    vm-name: vm1
    vcpus: 4
    memory: 4194304
    memnode-map: [[0], [1]]
    xml: <domain/>
    ivshmem:
      id: shm
      size: "64M"
      path: /dev/shm/a
    transient: true
    pci-ids:
      - vendor: "0x15b3"
        device: "0x1004"
      - vendor: "0x0001"
        device: "0x0002"
    devs:
      - pci-addr: "0000:01:02.3"
    vcpu-map: [[0, 1], [2]]
    probe-with-ssh: false
    probe-hostname: vm1-ib
  - vm-name: vm2
concurrent-execution: true
id: task-1
---""",
    ),
    "stop": (
        TaskContainer(
            tasks=[Stop(vm_name="vm1", force=True, undefine=False), Stop(regex="vm[0-9]+")], id="1"
        ),
        """\
---
task: stop vm
list:
  - vm-name: vm1
    force: true
    undefine: false
  - regex: "vm[0-9]+"
id: "1"
---""",
    ),
    "suspend": (
        TaskContainer(tasks=[Suspend(vm_name="vm1")]),
        "---\ntask: suspend vm\nlist:\n  - vm-name: vm1\n---",
    ),
    "resume": (
        TaskContainer(tasks=[Resume(vm_name="vm1", time_measurement=True)], host="node1"),
        "---\ntask: resume vm\nlist:\n  - time-measurement: true\n    vm-name: vm1\n"
        "host: node1\n---",
    ),
    "resume in time and once": (
        TaskContainer(
            tasks=[Resume(vm_name="vm1")],
            id="a",
            expires=datetime(2026, 11, 29, 7, 30, 0, 250_000, timezone(timedelta(hours=1))),
            idempotency_key="5d9c2f4e",
        ),
        "---\ntask: resume vm\nlist:\n  - vm-name: vm1\nid: a\n"
        'expires: "2026-11-29T06:30:00.25Z"\nidempotency-key: "5d9c2f4e"\n---',
    ),
    "repin": (
        TaskContainer(tasks=[Repin(vm_name="vm1", vcpu_map=[[0, 1], [], [2]])], id="r"),
        "---\ntask: repin vm\nvm-name: vm1\nvcpu-map: [[0, 1], [], [2]]\nid: r\n---",
    ),
    "migrate": (
        TaskContainer(
            tasks=[
                Migrate(
                    vm_name="vm1",
                    destination="node2",
                    time_measurement=True,
                    driver="qemu",
                    parameter=MigrateParameter(
                        retry_counter=3,
                        migration_type="live",
                        rdma_migration=True,
                        pscom_hook_procs="auto",
                        transport="ssh",
                        swap_with=SwapWith(vm_name="vm2", pscom_hook_procs="2", vcpu_map=[[4, 5]]),
                        vcpu_map=[[0, 1], [2, 3]],
                    ),
                )
            ],
            concurrent_execution=True,
            id="migrate-1",
        ),
        """\
---
task: migrate vm
concurrent-execution: true
time-measurement: true
driver: qemu
vm-name: vm1
destination: node2
parameter:
  retry_counter: 3
  migration-type: live
  rdma-migration: true
  pscom-hook-procs: auto
  transport: ssh
  swap-with:
    vm-name: vm2
    pscom-hook-procs: "2"
    vcpu-map: [[4, 5]]
  vcpu-map: [[0, 1], [2, 3]]
id: migrate-1
---""",
    ),
    "evacuate": (
        TaskContainer(
            tasks=[
                Evacuate(
                    destinations=["node1", "node2"],
                    parameter=EvacuateParameter(
                        mode="compact",
                        overbooking=False,
                        retry_counter=1,
                        migration_type="offline",
                        rdma_migration=False,
                        pscom_hook_procs="auto",
                        transport="tcp",
                    ),
                    vm_name="vm1",
                )
            ]
        ),
        """\
---
task: evacuate node
destinations:
  - node1
  - node2
parameter:
  mode: compact
  overbooking: false
  retry_counter: 1
  migration-type: offline
  rdma-migration: false
  pscom-hook-procs: auto
  transport: tcp
vm-name: vm1
---""",
    ),
    "migrate, as only this library's daemon understands it": (
        TaskContainer(
            tasks=[
                Migrate(
                    vm_name="vm1",
                    destination="node2",
                    parameter=MigrateParameter(
                        migration_type="live",
                        vcpu_map=[[0]],
                        bandwidth_limit=1024,
                        max_downtime=300,
                        timeout=600,
                        on_timeout="post-copy",
                        auto_converge=True,
                        parallel_connections=4,
                        compression="zstd",
                        encrypted=True,
                    ),
                )
            ]
        ),
        """\
---
task: migrate vm
vm-name: vm1
destination: node2
parameter:
  migration-type: live
  bandwidth-limit: 1024
  max-downtime: 300
  timeout: 600
  on-timeout: post-copy
  auto-converge: true
  parallel-connections: 4
  compression: zstd
  encrypted: true
  vcpu-map: [[0]]
---""",
    ),
    "evacuate, as only this library's daemon understands it": (
        TaskContainer(
            tasks=[
                Evacuate(
                    destinations=["node1"],
                    parameter=EvacuateParameter(
                        timeout=60, on_timeout="abort", retry_counter=1, overbooking=True
                    ),
                )
            ]
        ),
        "---\ntask: evacuate node\ndestinations:\n  - node1\nparameter:\n  overbooking: true\n"
        "  retry_counter: 1\n  timeout: 60\n  on-timeout: abort\n---",
    ),
    "cancel": (
        TaskContainer(tasks=[Cancel(id="migrate-1"), Cancel(id="7")], id="c"),
        '---\ntask: cancel task\nlist:\n  - id: migrate-1\n  - id: "7"\nid: c\n---',
    ),
    "query": (
        TaskContainer(tasks=[Query()], id="q"),
        "---\ntask: query node\nid: q\n---",
    ),
    "queried": (
        ResultContainer(
            result="node queried",
            results=[
                NodeResult(
                    status="success",
                    node=NodeReport(
                        host="node1",
                        hypervisor="libvirt",
                        cpus=64,
                        memory=2**28,
                        free_memory=2**27,
                        domains=[
                            DomainReport(name="vm1", state="running", vcpus=4, memory=4194304),
                            DomainReport(name="vm2", state="shut off"),
                        ],
                        tasks=[
                            TaskReport(
                                id="migrate-1",
                                task="migrate vm",
                                vm_name="vm1",
                                state="running",
                                since=1.5,
                            )
                        ],
                        capabilities={"tasks": ["start vm", "stop vm"], "rdma": True},
                        versions={"libvirt": "10.0", "migfra": "0.1.0"},
                    ),
                )
            ],
            id="q",
        ),
        """\
---
result: node queried
list:
  - vm-name: n/a
    status: success
    node:
      host: node1
      hypervisor: libvirt
      cpus: 64
      memory: 268435456
      free-memory: 134217728
      domains:
        - name: vm1
          state: running
          vcpus: 4
          memory: 4194304
        - name: vm2
          state: shut off
      tasks:
        - id: migrate-1
          task: migrate vm
          vm-name: vm1
          state: running
          since: 1.5
      capabilities:
        tasks:
          - start vm
          - stop vm
        rdma: "true"
      versions:
        libvirt: "10.0"
        migfra: "0.1.0"
id: q
---""",
    ),
    "queried in vain": (
        ResultContainer(
            result="node queried", results=[NodeResult(status="error", details="no")], id="q"
        ),
        "---\nresult: node queried\nlist:\n  - vm-name: n/a\n    status: error\n"
        '    details: "no"\nid: q\n---',
    ),
    "progress": (
        Progress(
            id="migrate-1",
            vm_name="vm1",
            task="migrate vm",
            phase="memory",
            percent=12.5,
            transferred=2**30,
            total=2**33,
            remaining=7 * 2**30,
            dirty_rate=1e6,
            expected=7,
        ),
        """\
---
id: migrate-1
vm-name: vm1
title: migrate vm
phase: memory
percent: 12.5
transferred: 1073741824
total: 8589934592
remaining: 7516192768
dirty-rate: 1000000.0
expected: 7.0
---""",
    ),
    "presence": (
        Presence(status="online", version="0.1.0", hypervisor="dummy", started=1.7e9),
        '---\nstatus: online\nversion: "0.1.0"\nhypervisor: dummy\nstarted: 1700000000.0\n---',
    ),
    "degraded presence": (
        Presence(
            status="online",
            degraded="the disk is full",
            time=datetime(2026, 11, 29, 6, 30, tzinfo=UTC),
            client_id="fast-migfra-node1",
            instance="1e5",
        ),
        "---\nstatus: online\ndegraded: the disk is full\n"
        'time: "2026-11-29T06:30:00Z"\nclient-id: fast-migfra-node1\ninstance: "1e5"\n---',
    ),
    "last will of a run": (
        Presence(status="offline", client_id="fast-migfra-node1", instance="9a1f"),
        '---\nstatus: offline\nclient-id: fast-migfra-node1\ninstance: "9a1f"\n---',
    ),
    "result of an earlier delivery": (
        ResultContainer(
            result="quit",
            results=[Result(vm_name="n/a", status="success")],
            executed=datetime(2026, 11, 29, tzinfo=UTC),
            idempotency_key="0x1f",
        ),
        "---\nresult: quit\nlist:\n  - vm-name: n/a\n    status: success\n"
        'executed: "2026-11-29T00:00:00Z"\nidempotency-key: "0x1f"\n---',
    ),
    "last will": (Presence(status="offline"), "---\nstatus: offline\n---"),
    "results": (
        ResultContainer(
            result="vm started",
            results=[
                Result(vm_name="vm1", status="success"),
                Result(vm_name="vm2", status="error", details="Host unreachable: no route"),
                Result(
                    vm_name="vm3",
                    status="success",
                    details="retries",
                    time_measurement=TimeMeasurement(
                        {"overall": Timing(wall=0.5), "repin": Timing(wall=0.004711)}
                    ),
                    process_id=4711,
                ),
            ],
            id="task-1",
        ),
        """\
---
result: vm started
list:
  - vm-name: vm1
    status: success
  - vm-name: vm2
    status: error
    details: "Host unreachable: no route"
  - vm-name: vm3
    status: success
    details: retries
    time-measurement:
      overall: 0.5
      repin: 0.004711
    process-id: 4711
id: task-1
---""",
    ),
    "migrated": (
        ResultContainer(
            result="vm migrated",
            results=[
                Result(
                    vm_name="vm1",
                    status="success",
                    time_measurement=TimeMeasurement(
                        {"migrate": Timing(wall=1.5, started=0.25, stopped=1.75)}
                    ),
                )
            ],
            id="migrate-1",
        ),
        """\
---
result: vm migrated
vm-name: vm1
status: success
time-measurement:
  migrate: "wall: 1.5 started: 0.25 stopped: 1.75"
id: migrate-1
---""",
    ),
    "repinned": (
        ResultContainer(result="vm repinned", results=[Result(vm_name="a", status="success")]),
        "---\nresult: vm repinned\nlist:\n  - vm-name: a\n    status: success\n---",
    ),
    "unknown": (
        ResultContainer(
            result="unknown",
            results=[Result(vm_name="unknown", status="error", details="no title")],
            id="x",
        ),
        "---\nresult: unknown\nlist:\n  - vm-name: unknown\n    status: error\n"
        "    details: no title\nid: x\n---",
    ),
    "init": (Init(hostname="node1"), "---\ntask: init\nhostname: node1\n---"),
    "init agent": (
        InitAgent(kpi=Kpis(categories={"energy consumption": "high", "io": "low"}, repeat=5)),
        "---\ntask: init agent\nKPI:\n  categories:\n    energy consumption: high\n    io: low\n"
        "  repeat: 5\n---",
    ),
    "stop monitoring": (
        StopMonitoring(job_description=JobDescription(job_id="job-17", process_id=4711)),
        "---\ntask: stop monitoring\njob-description:\n  job-id: job-17\n  process-id: 4711\n---",
    ),
    "configuration": (
        Configuration(source="node1", status="accepted"),
        "---\ntask: configuration\nsource: node1\nstatus: accepted\n---",
    ),
    "KPI": (
        KpiReport(source="node1", kpis={"energy": "low", "list": ["a", {"b": "c"}]}),
        "---\ntask: KPI\nsource: node1\nKPIS:\n  energy: low\n  list:\n    - a\n    - b: c\n---",
    ),
    "status": (
        ApplicationStatus(source="app", migration=True, supported_kpi=["flops", "io"]),
        "---\ntask: status\nsource: app\nmigration: true\nsupported_KPI:\n  - flops\n  - io\n---",
    ),
    "KPIs": (
        ApplicationKpis(source="app", kpis={"flops": "17 G"}),
        '---\ntask: KPIs\nsource: app\nKPIS:\n  flops: "17 G"\n---',
    ),
    "request": (Request(cores=[0, 1]), "---\ncores:\n  - 0\n  - 1\n---"),
    "reply": (
        Reply(cores=[0, 2**64 - 1], result=0.33),
        "---\ncores:\n  - 0\n  - 18446744073709551615\nresult: 0.33\n---",
    ),
    "stop group": (StopGroup(cgroup="/sys/fs/a"), "---\ncgroup: /sys/fs/a\n---"),
    "restart": (Restart(cgroup="/sys/fs/a"), "---\ncgroup: /sys/fs/a\n---"),
    "ack": (Ack(), "---\n{}\n---"),
    "system info": (
        SystemInfo(threads=64, smt=2, numa=4, bandwidth=[0.5, 1e22]),
        "---\nthreads: 64\nsmt: 2\nnuma: 4\nbandwidth:\n  - 0.5\n  - 1.0e+22\n---",
    ),
    "pscom": (PscomRequest(request="resume"), "resume"),
    "member": (
        Migrate(vm_name="vm1", destination="node2"),
        "---\nvm-name: vm1\ndestination: node2\n---",
    ),
    "pci id": (PciId(vendor=0x8086, device=7), '---\nvendor: "0x8086"\ndevice: "0x0007"\n---'),
    "pci address": (
        PciAddress(domain=0xABCD, bus=0xEF, device=0x1F, function=7),
        '---\npci-addr: "abcd:ef:1f.7"\n---',
    ),
    "ivshmem": (DeviceIvshmem(id="a", size="b"), "---\nid: a\nsize: b\n---"),
}


@pytest.mark.parametrize("name", WIRE)
def test_message_is_written_as_its_text(name):
    message, text = WIRE[name]
    assert message.to_yaml() == text
    assert type(message).from_yaml(text) == message
    assert type(message).from_yaml(text.encode()) == message
    assert type(message).load(message.emit()) == message
    for style in ("flow", "literal"):
        assert type(message).from_yaml(message.to_yaml(style=style)) == message


@pytest.mark.parametrize("name", [name for name, (_, text) in WIRE.items() if "\ntask:" in text])
def test_load_finds_the_type_by_its_title(name):
    message, text = WIRE[name]
    assert fastlib.load(text) == message
    assert fastlib.load(text.encode("utf-16")) == message
    assert fastlib.validate(text).message == message
    assert fastlib.validate(text).problems == ()


@pytest.mark.parametrize(
    "name", ["results", "migrated", "repinned", "unknown", "queried", "queried in vain"]
)
def test_load_finds_the_type_by_its_result_title(name):
    message, text = WIRE[name]
    assert fastlib.load(text) == message
    assert fastlib.validate(text).problems == ()


def test_title_may_follow_other_keys():
    text = "vm-name: a\ndestination: b\nid: 7\ntask: migrate vm\n"
    assert fastlib.load(text).id == "7"
    # A "task:" of a member, even before the container's own, is not a title.
    text = "result: vm started\nlist:\n- vm-name: a\n  task: quit\n  status: error\n"
    assert type(fastlib.load(text)) is ResultContainer
    text = "x:\n  task: quit\ntask: stop vm\nlist: [{vm-name: a}]"
    assert fastlib.load(text).task == "stop vm"


def test_message_without_title_is_read_by_the_type_of_its_topic():
    for name in ("progress", "presence", "last will", "request"):
        message, text = WIRE[name]
        [problem] = fastlib.validate(text).problems
        assert problem.code == "no-title"
        assert fastlib.validate(text, type(message)).message == message


def test_styles_lay_out_the_same_message():
    start = Start(xml="<domain>\n  <name>a</name>\n</domain>\n", vcpu_map=[[0], [1]])
    body = r'"<domain>\n  <name>a</name>\n</domain>\n"'
    assert start.to_yaml() == f"---\nxml: {body}\nvcpu-map: [[0], [1]]\n---"
    assert start.to_yaml(style="flow") == f"{{xml: {body}, vcpu-map: [[0], [1]]}}"
    assert start.to_yaml(style="literal") == (
        "---\nxml: |\n  <domain>\n    <name>a</name>\n  </domain>\nvcpu-map: [[0], [1]]\n---"
    )


def test_emit_returns_the_tree_of_the_text():
    container, _ = WIRE["migrate"]
    assert container.emit() == {
        "task": "migrate vm",
        "concurrent-execution": True,
        "time-measurement": True,
        "driver": "qemu",
        "vm-name": "vm1",
        "destination": "node2",
        "parameter": {
            "retry_counter": 3,
            "migration-type": "live",
            "rdma-migration": True,
            "pscom-hook-procs": "auto",
            "transport": "ssh",
            "swap-with": {"vm-name": "vm2", "pscom-hook-procs": "2", "vcpu-map": [[4, 5]]},
            "vcpu-map": [[0, 1], [2, 3]],
        },
        "id": "migrate-1",
    }
    assert PscomRequest(request="suspend").emit() == "suspend"
    assert Ack().emit() == {}


def test_tree_may_have_texts_or_values():
    tree = {"vm-name": "a", "vcpus": "0x10", "memory": 1024, "probe-with-ssh": "No"}
    assert Start.load(tree) == Start(vm_name="a", vcpus=16, memory=1024, probe_with_ssh=False)
    # A number is no text, though: what the caller meant by 08 is lost.
    with pytest.raises(ValidationError) as caught:
        Start.load({"vm-name": 8})
    assert caught.value.problems[0].path == "vm-name"
