"""Every spelling that is understood: scalars, PCI, old forms, layouts of results, alternatives."""

import math
import sys

import pytest

import fastlib
from fastlib import (
    Evacuate,
    EvacuateParameter,
    Migrate,
    MigrateParameter,
    PciAddress,
    PciId,
    Repin,
    Result,
    ResultContainer,
    Start,
    Stop,
    Suspend,
    SwapWith,
    TaskContainer,
    ValidationError,
)
from fastlib.message.agent import (
    Configuration,
    Init,
    InitAgent,
    Kpis,
)
from fastlib.message.application import ApplicationKpis, ApplicationStatus
from fastlib.message.mmbwmon import Ack, Reply, Request
from fastlib.message.pscom import PscomRequest
from tests.support.problems import kinds_of_problems

# --- what the scalars of a text mean ------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["no", "42", "0123", "12:30:45", "1e3", "0x1F", "2001-01-01", ".inf", "-1", "<<", "="]
)
def test_scalar_in_a_text_field_is_text(name):
    assert Suspend.from_yaml(f"vm-name: {name}").vm_name == name
    assert Suspend.from_yaml(f"vm-name: '{name}'").vm_name == name
    assert Suspend(vm_name=name).to_yaml() == f'---\nvm-name: "{name}"\n---'


@pytest.mark.parametrize("word", ["true", "yes", "on", "y", "false", "no", "off", "n"])
def test_all_spellings_of_booleans_are_read(word):
    meaning = word in ("true", "yes", "on", "y")
    for spelling in (word, word.upper(), word.capitalize(), f'"{word}"'):
        assert Stop.from_yaml(f"vm-name: a\nforce: {spelling}").force is meaning
    for spelling in ("1", "0", "t", "tRUE" if meaning else "fALSE", "''"):
        assert kinds_of_problems(f"vm-name: a\nforce: {spelling}", Stop) == [
            ("error", "value", "force")
        ]


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("7", 7), ("010", 8), ("0x10", 16), ("0XfF", 255), ("'12'", 12), ("00", 0),
     ("4294967295", 2**32 - 1), ("0xffffffff", 2**32 - 1), ("037777777777", 2**32 - 1)],
)  # fmt: skip
def test_all_spellings_of_integers_are_read(text, value):
    assert Start.from_yaml(f"vm-name: a\nvcpus: {text}").vcpus == value


@pytest.mark.parametrize(
    "text",
    ["-1", "+1", "1_000", "1.0", "1e3", "08", "0o17", "0b1", "0x", "one", "1 2", "4294967296",
     "0x100000000", "9" * 5000, "''", "[1]", "{a: 1}", "'1 x'", "٣"],
)  # fmt: skip
def test_invalid_integer_is_refused(text):
    [(severity, _, path)] = kinds_of_problems(f"vm-name: a\nvcpus: {text}", Start)
    assert (severity, path) == ("error", "vcpus")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("-1.5", -1.5), ("+.5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("1.0E-2", 0.01),
     ("'0.25'", 0.25), (".inf", math.inf), ("-.INF", -math.inf), ("010", 10.0),
     ("1.7976931348623157e308", sys.float_info.max)],
)  # fmt: skip
def test_all_spellings_of_numbers_are_read(text, value):
    assert Reply.from_yaml(f"cores: []\nresult: {text}").result == value


@pytest.mark.parametrize(
    "text", ["1e400", "-1e400", "1,5", "1_0", "0x1p3", "0x10", "1:30", "x", "''", "1 2", "e5", "."]
)
def test_invalid_number_is_refused(text):
    # What no double can hold is no infinity either.
    assert kinds_of_problems(f"cores: []\nresult: {text}", Reply) == [("error", "value", "result")]


@pytest.mark.parametrize("null", ["~", "null", "Null", "NULL", ""])
def test_null_is_absent_with_a_warning(null):
    text = f"vm-name: a\nforce: {null}\ndriver: qemu"
    assert Stop.from_yaml(text) == Stop(vm_name="a", driver="qemu")
    [problem] = fastlib.validate(text, Stop).problems
    assert (problem.severity, problem.code, problem.path) == ("warning", "null", "force")
    assert problem.line == 2


def test_null_in_quotes_is_text():
    assert Suspend.from_yaml("vm-name: '~'").vm_name == "~"
    assert Suspend(vm_name="null").to_yaml() == '---\nvm-name: "null"\n---'


@pytest.mark.parametrize(
    ("type", "text", "path"),
    [
        (Suspend, "vm-name: ~", "vm-name"),
        (Repin, "vm-name: a\nvcpu-map:", "vcpu-map"),
        (Repin, "vm-name: a\nvcpu-map: [[~]]", "vcpu-map[0][0]"),
        (Evacuate, "destinations: [~]", "destinations[0]"),
        (Start, "vm-name: a\npci-ids: [~]", "pci-ids[0]"),
        (TaskContainer, "task: stop vm\nlist:", "list"),
    ],
)
def test_null_is_refused_in_required_fields(type, text, path):
    assert [(p.severity, p.path) for p in fastlib.validate(text, type).problems] == [
        ("error", path)
    ]


def test_null_is_absent_in_every_optional_field_of_a_task():
    text = "task: migrate vm\nid: ~\nhost: ~\nvm-name: a\ndestination: b\nparameter: ~\ndriver:\n"
    report = fastlib.validate(text)
    assert report.message == TaskContainer(tasks=[Migrate(vm_name="a", destination="b")])
    assert report.ok
    assert [p.path for p in report.warnings] == ["id", "host", "parameter", "driver"]


# --- spellings of tasks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("0000:01:02.3", (0, 1, 2, 3)),
        ("00ab:cd:1e.7", (0xAB, 0xCD, 0x1E, 7)),
        ("FFFF:FF:1F.7", (0xFFFF, 0xFF, 0x1F, 7)),
        ("01:02.3", (0, 1, 2, 3)),
        ("0:1:2.3", (0, 1, 2, 3)),
        # What a C++ peer writes: the device in the domain's place.
        ("0002:01.02.3", (0, 1, 2, 3)),
        ("001f:00.1f.6", (0, 0, 0x1F, 6)),
        ("0000:af.00.0", (0, 0xAF, 0, 0)),
    ],
)
def test_all_spellings_of_pci_addresses_are_read(text, parts):
    domain, bus, device, function = parts
    address = PciAddress(domain=domain, bus=bus, device=device, function=function)
    assert PciAddress.parse(text) == address
    assert str(address) == f"{domain:04x}:{bus:02x}:{device:02x}.{function:x}"
    assert PciAddress.parse(str(address)) == address
    spellings = (f"devs: [{{pci-addr: '{text}'}}]", f"dev:\n  - addr: {text}\n")
    for spelling in spellings:
        start = Start.from_yaml(f"vm-name: a\n{spelling}")
        assert start == Start(vm_name="a", devs=[address])
        assert start.emit()["devs"] == [{"pci-addr": str(address)}]


@pytest.mark.parametrize(
    "text",
    ["", "42", "zz:02.3", "01:02", "01:02.g", "0:1:2:3", "01:02:03", "::.", "01:02.33", "01:02.3 x",
     " 01:02.3", "100:02.3", "10000:01:02.3", "01:20.3", "01:02.8", "0000:01:20.0", "01.02.3",
     "0003:01.02.3", "０１:02.3"],
)  # fmt: skip
def test_invalid_pci_address_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        PciAddress.parse(text)
    report = fastlib.validate(f"vm-name: a\ndevs:\n  - pci-addr: '{text}'", Start)
    assert [problem.severity for problem in report.problems] == ["error"]
    # The place is one that the text has: the entry, or the address in it.
    assert report.problems[0].path in ("devs[0]", "devs[0].pci-addr")
    assert report.problems[0].line == 3


@pytest.mark.parametrize("text", ["0x15b3", "0X15B3", "5555", "012663"])
def test_pci_ids_are_read_in_any_base(text):
    pci = PciId.from_yaml(f"{{vendor: {text}, device: '{text}'}}")
    assert pci == PciId(vendor=0x15B3, device=0x15B3)
    assert pci.emit() == {"vendor": "0x15b3", "device": "0x15b3"}


def test_error_about_pci_id_names_the_missing_prefix():
    [problem] = fastlib.validate("vendor: 15b3\ndevice: 0x1004", PciId).problems
    assert (problem.path, problem.got, problem.suggestion) == ("vendor", "'15b3'", "0x15b3")
    # A peer cuts this one to 16 bits.
    assert kinds_of_problems("vendor: 0x115b3\ndevice: 0x1004", PciId) == [
        ("error", "value", "vendor")
    ]


@pytest.mark.parametrize("key", ["retry_counter", "retry-counter"])
@pytest.mark.parametrize("type", [MigrateParameter, EvacuateParameter])
def test_both_spellings_of_the_retry_counter_are_read(type, key):
    assert type.from_yaml(f"{key}: 3") == type(retry_counter=3)
    assert type.load({key: 3}).to_yaml() == "---\nretry_counter: 3\n---"
    assert fastlib.validate(f"{key}: 3", type).problems == ()


def test_two_spellings_of_one_key_are_a_duplicate():
    text = "retry_counter: 3\nretry-counter: 3"
    assert kinds_of_problems(text, MigrateParameter) == [
        ("error", "duplicate-key", "retry-counter")
    ]
    text = "vm-name: a\ndev: []\ndevs: []"
    assert kinds_of_problems(text, Start) == [("error", "duplicate-key", "devs")]


def test_old_scalar_of_swap_with_is_read_with_a_warning():
    text = "vm-name: a\ndestination: b\nparameter:\n  swap-with: vm2\n"
    migrate = Migrate.from_yaml(text)
    assert migrate.parameter == MigrateParameter(swap_with=SwapWith(vm_name="vm2"))
    assert migrate.emit()["parameter"] == {"swap-with": {"vm-name": "vm2"}}
    report = fastlib.validate(text, Migrate)
    assert report.message == migrate
    [problem] = report.problems
    assert (problem.severity, problem.code) == ("warning", "old-scalar")
    assert (problem.path, problem.line, problem.column) == ("parameter.swap-with", 4, 14)
    assert "{vm-name: vm2}" in problem.message


# --- fossils ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("task: stop vm\nlist:\n  - name: a\n", ("list[0].name", 3, 5), "write 'vm-name'"),
        ("task: start vm\nvm-configurations:\n  - name: a\n", ("vm-configurations[0].name", 3, 5),
         "write 'vm-name'"),
        ("task: migrate vm\nname: a\ndestination: b\n", ("name", 2, 1), "write 'vm-name'"),
        ("task: migrate vm\nvm-name: a\ndestination: b\nparameter:\n  swap-with: {name: c}\n",
         ("parameter.swap-with.name", 5, 15), "write 'vm-name'"),
        ("task: stop vm\nvm-configurations:\n  - vm-name: a\n", ("vm-configurations", 2, 1),
         "are under 'list'"),
        ("task: start vm\nlist:\n  - vm-name: a\n", ("list", 2, 1),
         "are under 'vm-configurations'"),
        ("task: stop vm\nvm-name: a\n", ("vm-name", 2, 1), "belongs to each entry of 'list'"),
    ],
)  # fmt: skip
def test_outdated_keys_are_explained(text, place, remedy):
    report = fastlib.validate(text)
    assert not report.ok
    [problem] = report.warnings
    assert problem.code == "old-key"
    assert (problem.path, problem.line, problem.column) == place
    assert remedy in problem.message
    # Under the strict reading, the explanation is among the errors.
    with pytest.raises(ValidationError) as caught:
        fastlib.load(text, unknown="error")
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("task: start vm\nvm-configurations:\n  - vm-name: a\n    base-name: b\n",
         ("vm-configurations[0].base-name", 4, 5)),
        ("task: start vm\nvm-configurations:\n  - vm-name: a\n    dhcp-info: {mac: b}\n",
         ("vm-configurations[0].dhcp-info", 4, 5)),
        ("task: start vm\nbase-name: b\nvm-configurations: [{vm-name: a}]\n", ("base-name", 2, 1)),
        ("task: start vm\ndhcp-info: []\nvm-configurations: [{vm-name: a}]\n", ("dhcp-info", 2, 1)),
    ],
)  # fmt: skip
def test_key_without_which_an_order_would_mean_less_is_refused(text, place):
    """A development branch of the C++ daemon has keys for the disks and the network of a domain."""
    remedy = "write 'disks: [{target: vda, base: PATH}]'"
    if "dhcp" in place[0]:
        remedy = "into the <interface> of 'xml'"
    for unknown in ("ignore", "warn", "error"):
        with pytest.raises(ValidationError) as caught:
            fastlib.load(text, unknown=unknown)
        [problem] = caught.value.problems
        assert (problem.severity, problem.code) == ("error", "old-key")
        assert (problem.path, problem.line, problem.column) == place
        assert remedy in problem.message


def test_misplaced_list_is_explained_by_tasks_that_have_one():
    [problem] = fastlib.validate("task: start vm\nlist:\n  - vm-name: a\n").warnings
    for title in ("stop vm", "suspend vm", "resume vm"):
        assert title in problem.message
    for title in ("migrate vm", "repin vm", "evacuate node"):
        assert title not in problem.message


@pytest.mark.parametrize("title", ["migrate vm\nvm-name: a\ndestination: b",
                                   "evacuate node\ndestinations: [b]"])  # fmt: skip
def test_live_migration_is_explained(title):
    text = f"task: {title}\nparameter:\n  live-migration: true\n"
    report = fastlib.validate(text)
    assert report.ok
    [problem] = report.problems
    assert (problem.severity, problem.code) == ("warning", "old-key")
    assert problem.path == "parameter.live-migration"
    assert "'migration-type: live'" in problem.message
    # Peers ignore it as well, so it means nothing here.
    assert report.message.tasks[0].parameter is None


# --- results ------------------------------------------------------------------------------------

RESULTS = [Result(vm_name="a", status="success")]
LISTED = "list:\n  - vm-name: a\n    status: success\n"
INLINE = "vm-name: a\nstatus: success\n"


@pytest.mark.parametrize(
    ("title", "layouts"),
    [
        ("vm started", [LISTED]),
        ("vm stopped", [LISTED]),
        ("node evacuated", [LISTED]),
        ("vm suspended", [LISTED]),
        ("vm resumed", [LISTED]),
        ("quit", [LISTED]),
        ("unknown", [LISTED]),
        ("another site's", [LISTED]),
        ("vm migrated", [INLINE]),
        ("vm repinned", [LISTED, INLINE]),
    ],
)
def test_both_layouts_of_results_are_read(title, layouts):
    container = ResultContainer(result=title, results=RESULTS, id="7")
    for layout in layouts:
        for text in (f"result: {title}\nid: 7\n{layout}", f"{layout}id: '7'\nresult: {title}\n"):
            assert ResultContainer.from_yaml(text) == container
            assert fastlib.load(text) == container
            codes = [problem.code for problem in fastlib.validate(text).problems]
            assert codes == ["unknown-title"] * (title == "another site's")
    written = "list" if layouts[0] is LISTED else "vm-name"
    assert list(container.emit()) == ["result", written] + ["status"] * (written != "list") + ["id"]
    for other in {LISTED, INLINE} - set(layouts):
        assert not fastlib.validate(f"result: {title}\n{other}").ok


def test_result_may_have_any_title():
    for title in ("snapshot taken", "", "no", "a: b", "long" * 300, "日本"):
        container = ResultContainer(result=title, results=RESULTS)
        assert ResultContainer.from_yaml(container.to_yaml()) == container
        assert fastlib.load(container.to_yaml()) == container


def test_result_may_name_its_scheduler():
    container = ResultContainer(result="quit", results=[], scheduler="s1")
    assert container.to_yaml() == "---\nresult: quit\nlist: []\nscheduler: s1\n---"
    assert ResultContainer.from_yaml(container.to_yaml()) == container


# --- spellings of agents and applications ---------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "texts"),
    [
        (Init(hostname="node1"), ["task: init\nsource: node1", "hostname: node1"]),
        (
            InitAgent(kpi=Kpis(categories={"io": "high", "energy": "low"}, repeat=5)),
            [
                "task: init agent\nKPI:\n  categories:\n    - io: high\n    - energy: low\n"
                "  repeat: 5",
                "task: init agent\nKPI:\n  categories:\n    - io: high\n      energy: low\n"
                "  repeat: 5",
                "KPI: {categories: {io: high, energy: low}, repeat: 0x5}",
            ],
        ),
        (Reply(cores=[0, 1], result=0.5), ["cores: [0, 1]\nresponse: 0.5",
                                           "cores: [0, 1]\nresult: 5e-1"]),
        (Ack(), ["", "---\n\n---", "{}", "---", "~", "# nothing\n"]),
        (ApplicationStatus(source="a", migration=True, supported_kpi=["x"]),
         ["task: status\nsource: a\nmigration: yes\nsupported_KPI: [x]"]),
        (ApplicationStatus(source="a", migration=False),
         ["task: status\nsource: a\nmigration: no"]),
        (ApplicationKpis(), ["task: KPIs", ""]),
        (PscomRequest(request="suspend"), ["suspend", "suspend\n", "'suspend'", "task: suspend",
                                           "{task: suspend}", "---\nsuspend\n---"]),
        (PscomRequest(request="resume"), ["resume", '"resume"', "---\ntask: resume\n---"]),
    ],
)  # fmt: skip
def test_alternative_spellings_are_read(message, texts):
    for text in texts:
        assert type(message).from_yaml(text) == message
        report = fastlib.validate(text, type(message))
        assert report.problems == ()
        assert report.message == message


def test_pscom_request_is_written_as_a_bare_word():
    for word in ("suspend", "resume"):
        request = PscomRequest(request=word)
        for style in ("block", "literal", "flow"):
            assert request.to_yaml(style=style) == word
        assert fastlib.load(f"task: {word}") == request
        assert PscomRequest.load(word) == PscomRequest.load({"task": word}) == request


@pytest.mark.parametrize(
    ("type", "text", "problem"),
    [
        (Init, "task: init", ("error", "missing", "hostname")),
        (Init, "task: init\nhostname: a\nsource: a", ("error", "duplicate-key", "source")),
        (Init, "task: quit\nhostname: a", ("error", "value", "task")),
        (Kpis, "repeat: 1\ncategories:\n - a: b\n - a: c", ("error", "duplicate-key",
                                                           "categories.a")),
        (Kpis, "repeat: 1\ncategories:\n - a", ("error", "value", "categories[0]")),
        (Kpis, "repeat: 1\ncategories: a", ("error", "value", "categories")),
        (Reply, "cores: []", ("error", "missing", "result")),
        (Reply, "cores: []\nresult: x", ("error", "value", "result")),
        (Reply, "cores: []\nresult: 1\nresponse: 1", ("error", "duplicate-key", "response")),
        (Request, "cores: 1", ("error", "value", "cores")),
        (Ack, "foo", ("error", "value", "")),
        (PscomRequest, "suspnd", ("error", "value", "")),
        (PscomRequest, "task: suspnd", ("error", "value", "task")),
        (PscomRequest, "[suspend]", ("error", "type", "")),
        (Configuration, "source: a\nstatus: accept", ("error", "value", "status")),
    ],
)  # fmt: skip
def test_wrong_alternative_spellings_are_refused(type, text, problem):
    assert kinds_of_problems(text, type) == [problem]
