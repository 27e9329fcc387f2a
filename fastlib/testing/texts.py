"""Texts for messages: names, texts that YAML may misread, and any others."""

from typing import Final

from hypothesis import strategies as st

_DOMAIN = """\
<domain type='kvm' id="7">
  <name>{name}</name>
  <!-- 2 vCPUs: pinned -->
  <memory unit='KiB'>1048576</memory>

  <os><type arch="x86_64">hvm</type></os>
\t<devices>
    <disk type='file'><source file='/srv/images/{name}.qcow2'/></disk>
  </devices>
</domain>
"""

ODD_TEXTS: Final = (
    # texts that a version of YAML reads as another type
    "", "~", "null", "Null", "NULL", "true", "True", "yes", "no", "on", "OFF", "y", "N",
    "0", "-0", "1", "+1", "-1", "00", "007", "0o7", "0x1F", "0X1f", "0b11", "1_000", "1,000",
    "1.", ".5", "-.5", "1e3", "1E+3", "1e400", ".inf", "-.INF", ".nan", "inf", "nan", "Infinity",
    "12:30:45", "190:20:30", "08:00.0", "0000:08:00.0", "2024-01-02", "2024-01-02 03:04:05Z",
    "<<", "=", "_", "__", "e", "x", "é", "日本語のVM", "ﬁ", "ª", "\xa0", "a\xa0b",
    # indicators, in every place
    "-", "- a", "-a", "--", "---", "--- a", "...", "?", "? a", "?a", ":", ": a", ":a", "a:", "a: b",
    "a :b", "a:b", "::", "fe80::1", "[fe80::]", "#", "# a", "#a", "a #b", "a# b", "a#b", "&a", "*a",
    "!a", "!!str a", "!", "|", "|-", "> a", ">", "%", "%YAML 1.1", "@a", "`a`", ",", "a,b", "a, b",
    "[", "]", "[]", "[a", "a]", "{", "}", "{}", "{a: b}", "a}", "(a)", "a=b", "^a$", "vm-[0-9]+",
    "centos.*", r"\d+", "\\", "a\\", "\\n", "\\x41", "\\u0041", "\\ ", "\\\\", "$HOME", ";", "a;b",
    # quotes
    "'", "''", "'a'", "it's", "a'", '"', '""', '"a"', 'a"b', '"\'', "'\"'",
    # spaces and tabs
    " ", "  ", " a", "a ", "  a  ", "a  b", "\t", "\ta", "a\t", "a\tb", " \t ",
    # line ends
    "\n", "\n\n", "a\n", "\na", "a\n\n", "\n\na\n\n", "a\nb", "a\nb\n", "a\n\nb", "a\n b", " a\nb",
    "a \nb", "a\n b\n", "a\n\tb", "\ta\nb", "a\n \nb", "a\n  \n", "a\n# b", "# a\nb", "a\n---\nb",
    "---\na", "a\n...\n", "- a\n- b", "a: b\nc: d", "a\\\nb", "a\n'b'\n\"c\"", "\r", "a\r", "a\rb",
    "a\r\nb", "a\r\n", "\r\n", "a\n\rb", "\x85", "a\x85b", "a\u2028b", "\u2029", "a\u2028\n",
    # odd characters
    "\0", "a\0b", "\x01", "\x07\x08", "\x0b\x0c", "\x1b[0m", "\x7f", "\x80", "\x9f", "\ufeff",
    "\ufeffa", "a\ufeff", "\ufffe", "\uffff", "\ufffd", "\ue000", "\uf8ff\x85", "\u200b", "\u202e",
    "\U0001f600", "emoji 😀🚀", "\U0001fffe", "\U0010ffff", "e\u0301", "İ", "ǅ", "٣", "²",
    # real texts for the daemon
    "vm-01", "node1.example.org", "task-1", "64M", "auto", "ssh", "0x15b3", "success", "suspend",
    "Host unreachable: no route", "Error: 'x' (code #3)", "/sys/fs/cgroup/a b", "user@host:/p,q",
    # long ones; a simple key ends after 1024 bytes for C++ peers, after 1024 characters for PyYAML
    "a" * 999, "a" * 1000, "a" * 1023, "a" * 1024, "a" * 1025, "a b " * 300, "é" * 499, "é" * 511,
    "é" * 600, "日本" * 200, "\U0001f600" * 255, "\n" * 50,
    'say "a" \\ ' * 90, "word " * 40 + "end", "\\" * 70, _DOMAIN.format(name="vm-01"),
    _DOMAIN.format(name="a: 'b' #c").replace("\n", "\n  "), _DOMAIN.format(name="ü\t").strip(),
    _DOMAIN.format(name="crlf").replace("\n", "\r\n"),
)  # fmt: skip
"""Some program reads or writes each of them wrongly."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
NAMES: st.SearchStrategy[str] = st.tuples(
    st.sampled_from(_LETTERS),
    st.text(st.sampled_from(f"{_LETTERS}0123456789"), max_size=6),
    st.sampled_from(["", "-0", "-12", "-345"]),
).map("".join)
"""Names like those of domains and hosts."""
_DELICATE = st.text(
    st.sampled_from([*" \t\n\r:#-?&*!|>'\"%@`,[]{}~\\.0aé\x85\u2028\ufeff\0\x7f\U0001f600"]),
    max_size=12,
)
_UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_LINES = st.lists(
    st.sampled_from(["", " ", "a", " b", "c ", "\td", "- e", "# f", "g: h", "'i'", '"j"', "k\\"]),
    max_size=6,
).map("\n".join)

TEXTS: st.SearchStrategy[str] = st.one_of(
    NAMES, NAMES, st.sampled_from(("a", *ODD_TEXTS)), _DELICATE, _UNICODE, _LINES
)
"""Return any text that a message may hold: all except lone surrogates."""

PLAIN_TEXTS: st.SearchStrategy[str] = st.one_of(
    NAMES,
    st.sampled_from(
        [text for text in ODD_TEXTS if len(text) < 90 and text.isprintable() and text.strip()]
    ),
)
"""Return texts on one line, like names."""
