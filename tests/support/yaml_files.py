"""Texts that tests of the commands write to files."""

MISSPELT = b"""\
task: migrate vm
vm-name: a
destination: b
parameter:
  migration-type: lve
"""
MISSPELT_LINE = (
    "5:19: error: parameter.migration-type: "
    "expected one of live, warm, offline; got 'lve' (did you mean 'live'?)\n"
)
UNKNOWN_KEY = b"task: stop vm\nlist:\n- vm-name: a\n  frce: yes\n"
SEVERAL = b"""\
# three messages
task: quit
id: '1'
---
{task: stop vm, list: [{vm-name: a}, {vm-name: "no"}]}
...
---
task: init
source: host
---
"""
