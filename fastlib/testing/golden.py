"""The golden vectors: texts, and the C++ peers' results for them.

`peer-behaviour.jsonl` has texts that a peer read, wrote again or refused. `peer-killers.jsonl` has
texts on which a peer crashes, or hangs while its memory grows. Each line is a JSON object.
"""

import base64
import json
from importlib.resources import files
from typing import Any, NamedTuple

from fastlib import message
from fastlib.message import Message, agent, mmbwmon

TYPES: dict[str, type[Message]] = {
    "task_container": message.TaskContainer,
    "result_container": message.ResultContainer,
    "task": message.Task,
    "start": message.Start,
    "stop": message.Stop,
    "migrate": message.Migrate,
    "evacuate": message.Evacuate,
    "repin": message.Repin,
    "suspend": message.Suspend,
    "resume": message.Resume,
    "quit": message.Quit,
    "swap_with": message.SwapWith,
    "device_ivshmem": message.DeviceIvshmem,
    "pci_id": message.PciId,
    "pci_addr": message.PciAddress,
    "result": message.Result,
    "init": agent.Init,
    "init_agent": agent.InitAgent,
    "kpis": agent.Kpis,
    "stop_monitoring": agent.StopMonitoring,
    "job_description": agent.JobDescription,
    "mmbwmon_request": mmbwmon.Request,
    "mmbwmon_reply": mmbwmon.Reply,
    "mmbwmon_ack": mmbwmon.Ack,
    "mmbwmon_stop": mmbwmon.Stop,
    "mmbwmon_restart": mmbwmon.Restart,
    "mmbwmon_system_info": mmbwmon.SystemInfo,
}
"""The types by their names in the vectors."""


class Row(NamedTuple):
    """One vector."""

    number: int
    """Line in the file, from 1."""
    cls: type[Message]
    """The type as which the text was read."""
    text: str | bytes
    """The text; bytes if it is not UTF-8."""
    why: str
    """The category."""
    ok: bool
    """True if a peer read the text and could write it again."""
    echo: str | bytes | None
    """The peer's output after reading: its understanding of the text."""
    error: str
    """The peer's error, if it could not."""
    newer_echo: str | bytes | None
    """The output of a peer with a newer YAML parser, if it is known to differ."""

    @property
    def texts(self) -> list[str | bytes]:
        """Return all texts of this type in the row."""
        return [text for text in (self.text, self.echo, self.newer_echo) if text is not None]


def rows(name: str = "peer-behaviour") -> list[Row]:
    """Return the vectors of one file."""
    data = files(__package__) / "data" / f"{name}.jsonl"
    lines = data.read_text("utf-8").splitlines()
    return [_row(number, json.loads(line)) for number, line in enumerate(lines, 1)]


def _row(number: int, row: dict[str, Any]) -> Row:
    text = _text(row, "yaml")
    assert text is not None
    return Row(
        number=number,
        cls=TYPES[row["type"]],
        text=text,
        why=row["why"],
        ok=row.get("ok", False),
        echo=_text(row, "emit"),
        error=row.get("error", ""),
        newer_echo=_text(row.get("v07", {}), "emit"),
    )


def _text(row: dict[str, Any], key: str) -> str | bytes | None:
    encoded = row.get(f"{key}_b64")
    text: str | None = row.get(key)
    return text if encoded is None else base64.b64decode(encoded)
