"""The reader of a domain's XML against libvirt itself, with libvirt's driver `test`.

Either fastlib refuses a text, or libvirt does, or both read the same from it.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlib.migfra.errors import HypervisorError
from fastlib.migfra.virt.domain_vcpus import parse_cpu_set
from fastlib.migfra.virt.domain_xml import DomainXml, plain_text, read_domain
from tests.support.strategies import examples

UUID = "6695eb02-f6a4-8304-79aa-97f2502e193f"
_NODE = """<node><cpu><mhz>1</mhz><model>any</model><active>8</active><nodes>2</nodes>
<sockets>2</sockets><cores>2</cores><threads>1</threads></cpu><memory>6000000</memory></node>"""

# Odd values of each part. Most are refused by one of the two, so a document has few of them.
BLANKS = ["", " ", "\n", "\t", "\r", "\u00a0", "\u3000", "&#32;", "&#10;", "&#9;", "\u200b"]
WORDS = ["vm1", "VM1", "a b", "größe", "gro\u0308ße", "仮想", "\uff56m1", ".a", "-a", "a/b", "a+b"]
INSERTS = ["", "<!--c-->", "<?p i?>", "<![CDATA[x]]>", "<![CDATA[ ]]>", "<b>2</b>", "<b/>", "&amp;",
           "<!--c--> <!--c-->", "&#x41;", "\u0301", "/", "\r\n"]  # fmt: skip
NUMBERS = ["01", "0x10", "+1", "-1", "1.5", "1e3", "1_0", "", "0", "\u0661", "1<!--c-->0", "1 0",
           "18446744073709551615", "18446744073709551616", "9007199254740991", "9007199254740992",
           "1<![CDATA[0]]>", "4294967296", "65535", "65536", "&#49;0"]  # fmt: skip
UNITS = ["KiB", "KB", "kb", "b", "bytes", "byte", "MiB", "M", "m", "GB", "e", "", " KiB", "kibi",
         "K\u0130B", "K&#105;B", "k\n", "TB", "PiB", "Bytes"]  # fmt: skip
UUIDS = [UUID.upper(), UUID.replace("-", ""), f" {UUID}", f"{UUID}\n", f"-{UUID}", f"{UUID}-", "",
         UUID.replace("-", " "), UUID.replace("-", "--"), "66 95" + UUID[4:], UUID[:-1], " ",
         UUID[:9] + "<!--c-->" + UUID[9:], UUID.replace("6", "\u0666"), "g" * 32]  # fmt: skip
VCPU_ATTRIBUTES = ["current='1'", "current=' 1'", "current='1 '", "current='0'", "current='9'",
                   "current=''", "current='+1'", "current='01'", "placement='static'",
                   "cpuset='0-1,^1'", "current='&#49;'",
                   "x:current='1' xmlns:x='urn:x'"]  # fmt: skip
EXTRAS = ["<name>other</name>", "<memory>1</memory>", "<vcpu>1</vcpu>", "<!-- c -->", "<vcpus/>",
          "<name xmlns='urn:x'>other</name>", "<x:name xmlns:x='urn:x'>other</x:name>",
          "<title>other</title>", f"<uuid>{UUID[::-1]}</uuid>", "<currentMemory>1</currentMemory>",
          "<metadata><x:name xmlns:x='urn:x'>o</x:name></metadata>",
          "<memory xmlns='urn:x'>9</memory>",
          f"<sysinfo type='smbios'><system><entry name='uuid'>{UUID}</entry></system></sysinfo>",
          f"<sysinfo type='fwcfg'><system><entry name='uuid'>{UUID}</entry></system></sysinfo>",
          ]  # fmt: skip
STARTS = ["", "\ufeff", "<?xml version='1.0'?>", "<?xml version='1.0' encoding='UTF-8'?>",
          "<?xml version='1.0' encoding='ISO-8859-1'?>\n", "<!-- c -->", "<?p i?>",
          "<?xml version='1.0' encoding='UTF-16'?>",
          "\ufeff<?xml version='1.0' encoding='US-ASCII'?>",
          "<?xml version='1.0' standalone='no'?>", "\n", "<?xml version='1.1'?>"]  # fmt: skip
HOTPLUG = st.lists(
    st.builds(
        "<vcpu id='{}' enabled='{}'/>".format,
        st.sampled_from(["0", "0", "1", "1", "2", " 1", "1 ", "x", "9", "01"]),
        st.sampled_from(["yes", "yes", "no", "no", "Yes", ""]),
    ),
    max_size=4,
).map(lambda each: f"<vcpus>{''.join(each)}</vcpus>")

odd_names = st.builds(
    "".join,
    st.tuples(*map(st.sampled_from, (BLANKS, WORDS, INSERTS, BLANKS, WORDS, BLANKS))),
)
odd_numbers = st.one_of(
    st.integers(1, 1 << 20).map(str),
    st.builds("".join, st.tuples(*map(st.sampled_from, (BLANKS, NUMBERS, BLANKS)))),
)
odd_vcpus = st.one_of(st.integers(1, 8).map(str), odd_numbers.filter(lambda text: len(text) < 4))
odd_uuids = st.one_of(
    st.sampled_from(UUIDS), st.text("0123456789abcdefABCDEF- ", min_size=32, max_size=36)
)
ODD: dict[str, st.SearchStrategy[str]] = {
    "name": st.one_of(st.sampled_from(WORDS), odd_names),
    "memory": odd_numbers,
    "unit": st.sampled_from(UNITS),
    "uuid": odd_uuids,
    "vcpu": odd_vcpus,
    "attribute": st.sampled_from(VCPU_ATTRIBUTES),
    "hotplug": HOTPLUG,
    "extra": st.sampled_from(EXTRAS),
    "start": st.sampled_from(STARTS),
    "root": st.sampled_from([" xmlns:x='urn:y'", " xmlns='urn:x'", " id='3'"]),
}
PLAIN = {
    "name": "vm1", "memory": "2048", "unit": "KiB", "uuid": UUID[:-2] + "40", "vcpu": "3",
    "attribute": "", "hotplug": "", "extra": "", "start": "", "root": "",
}  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> str:
    """XML of a domain that is odd in a few of the places that fastlib reads."""
    odd = draw(st.lists(st.sampled_from(sorted(ODD)), min_size=1, max_size=3, unique=True))
    value = {**PLAIN, **{part: draw(ODD[part]) for part in odd}}
    parts = [
        f"<name>{value['name']}</name>",
        f"<memory unit='{value['unit']}'>{value['memory']}</memory>",
        f"<vcpu {value['attribute']}>{value['vcpu']}</vcpu>{value['hotplug']}",
        "<os><type>hvm</type></os>",
        value["extra"],
    ]
    if "sysinfo" not in value["extra"]:
        parts.append(f"<uuid>{value['uuid']}</uuid>")
    content = "".join(draw(st.permutations(parts)))
    return f"{value['start']}<domain type='test'{value['root']}>{content}</domain>"


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import libvirt

    libvirt.registerErrorHandler(lambda *_: None, None)
    path = tmp_path_factory.mktemp("node") / "node.xml"
    path.write_text(_NODE)
    with libvirt.open(f"test://{path}") as opened:
        yield opened


def as_libvirt_reads(connection: Any, xml: str) -> DomainXml | None:
    """Return the domain that libvirt reads from the text; None if it refuses the text."""
    import libvirt

    try:
        domain = connection.defineXMLFlags(xml, 0)
    except libvirt.libvirtError:
        return None
    _, memory, _, vcpus, _ = domain.info()
    found = DomainXml(name=domain.name(), uuid=domain.UUIDString(), memory=memory, vcpus=vcpus)
    domain.undefine()
    return found


def assert_same(connection: Any, xml: str) -> DomainXml | None:
    """Return the domain that both read; None if one of them refuses the text."""
    try:
        ours = read_domain(xml)
    except HypervisorError:
        return None
    theirs = as_libvirt_reads(connection, plain_text(xml))
    if theirs is None:
        return None
    assert ours.name == theirs.name
    assert ours.uuid in (None, theirs.uuid)
    assert ours.memory in (None, theirs.memory)
    assert ours.vcpus in (None, theirs.vcpus)
    return ours


def test_reader_and_libvirt_never_differ(connection):
    outcomes = []

    @examples(300, 20_000)
    @given(documents())
    def compare(xml):
        outcomes.append(assert_same(connection, xml))

    compare()
    accepted = len(outcomes) - outcomes.count(None)
    assert len(outcomes) / 4 < accepted < len(outcomes), "the examples must be odd, but not too odd"


plain_documents = st.builds(
    "<domain type='test'>\n<!-- c -->\n<name>{}</name>\n<uuid>{}</uuid>"
    "<memory unit='{}'>{}</memory><vcpu current='{}'>{}</vcpu>"
    "\n<os><type>hvm</type></os></domain>".format,
    st.sampled_from(["vm1", "a b", "größe", "仮想", "a&amp;b", "a&#66;c", "A.b-c_d"]),
    st.sampled_from([UUID, UUID.upper(), UUID.replace("-", "")]),
    st.sampled_from(["b", "KB", "KiB", "k", "MiB", "MB", "m", "GiB"]),
    st.integers(1, 1 << 20),
    st.integers(1, 3),
    st.integers(3, 200),
)


@examples(100, 5000)
@given(plain_documents)
def test_usual_xml_is_accepted_by_reader_and_libvirt(connection, xml):
    read = assert_same(connection, xml)
    assert read is not None
    assert read.uuid == UUID


@examples(300, 5000)
@given(st.text("0123456789-^, ", max_size=9))
def test_cpu_sets_are_read_as_libvirt_reads_them(connection, text):
    import xml.etree.ElementTree as ElementTree

    import libvirt

    try:
        ours = parse_cpu_set(text, "<vcpupin cpuset>")
    except HypervisorError:
        return
    if not ours:
        return  # libvirt refuses a vCPU without a CPU
    xml = (
        "<domain type='test'><name>a</name><memory>1024</memory><os><type>hvm</type></os>"
        f"<cputune><vcpupin vcpu='0' cpuset='{text}'/></cputune></domain>"
    )
    try:
        domain = connection.defineXMLFlags(xml, 0)
    except libvirt.libvirtError:
        return
    pin = ElementTree.fromstring(domain.XMLDesc(0)).find("cputune/vcpupin")
    domain.undefine()
    assert ours == parse_cpu_set(pin.get("cpuset"), "<vcpupin cpuset>")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (" vm1 ", "it has a space at an end"),
        ("vm1\n", "it has '\\\\n'"),
        ("\tvm1", "it has '\\\\t'"),
        ("vm<b>1</b>", "an element in <name>"),
        ("vm<!--c-->1", "a comment, a processing instruction or CDATA in <name>"),
        (" <![CDATA[vm1]]>", "CDATA in <name>"),
        ("vm1&#160;", "it has"),
        ("\u200bvm1", "it has"),
        ("a/b", "it has '/'"),
    ],
)
def test_ambiguous_names_are_refused(name, why):
    with pytest.raises(HypervisorError, match=why):
        read_domain(f"<domain><name>{name}</name></domain>")


@pytest.mark.parametrize("tag", ["name", "uuid", "memory", "currentMemory", "maxMemory", "vcpu"])
@pytest.mark.parametrize("value", ["<b>1</b>", "1<b/>", "1<b>2</b>", "1<!--c-->2"])
def test_values_have_nothing_but_text(tag, value):
    """libvirt joins all parts of a value, other readers use only the first part."""
    with pytest.raises(HypervisorError, match=f"in <{tag}>; it must have only text"):
        read_domain(f"<domain><{tag}>{value}</{tag}></domain>")


@pytest.mark.parametrize(
    ("element", "place"),
    [
        ("<vcpu>x</vcpu>", "<vcpu>"),
        ("<vcpu></vcpu>", "<vcpu>"),
        ("<vcpu>0</vcpu>", "<vcpu>"),
        ("<vcpu>-1</vcpu>", "<vcpu>"),
        ("<vcpu>65536</vcpu>", "<vcpu>"),
        ("<vcpu current='a'>2</vcpu>", "<vcpu current>"),
        ("<vcpu current='3'>2</vcpu>", "<vcpu current>"),
        ("<vcpu>2</vcpu><vcpus><vcpu id='q' enabled='yes'/></vcpus>", "<vcpus> <vcpu id>"),
        ("<vcpu>2</vcpu><vcpus><vcpu enabled='yes'/></vcpus>", "<vcpus> <vcpu id>"),
        ("<vcpu>2</vcpu><vcpus><vcpu id='2' enabled='yes'/></vcpus>", "<vcpus> <vcpu id>"),
        ("<vcpu>2</vcpu><vcpus><vcpu id='1'/></vcpus>", "<vcpus> <vcpu enabled>"),
        ("<memory> 1 </memory>", "<memory>"),
        ("<memory>16777216</memory><memory>1</memory>", "<memory>"),
        ("<memory unit='EiB'>8</memory>", "<memory>"),
        ("<uuid>6695eb02</uuid>", "<uuid>"),
        ("<cpu><numa><cell memory='much'/></numa></cpu>", "<cell memory>"),
    ],
)
def test_malformed_values_name_the_element(element, place):
    with pytest.raises(HypervisorError, match=f"the domain's XML has .*{place}"):
        read_domain(f"<domain><name>a</name>{element}</domain>")


def test_numa_cells_and_memory_modules_make_the_memory():
    xml = (
        "<domain><name>a</name><memory>1</memory><cpu><numa><cell memory='1' unit='MiB'/>"
        "<cell memory='1025' unit='b'/></numa></cpu><devices><memory model='dimm'><target>"
        "<size unit='MiB'>2</size></target></memory></devices></domain>"
    )
    assert read_domain(xml).memory == 1024 + 2 + 2048


@pytest.mark.parametrize("start", ["\ufeff", "<?xml version='1.0' encoding='UTF-16'?>\n"])
def test_libvirt_gets_the_text_without_its_declaration(start):
    assert plain_text(f"{start}<domain/>") == "<domain/>"
