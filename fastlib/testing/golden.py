"""The golden vectors: texts, and what the C++ peers made of them.

`peer-behaviour.jsonl` holds what a peer read, wrote again or refused; `peer-killers.jsonl` texts on
which a peer crashes, or hangs while its memory grows. One JSON object a line.
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
"""The vectors' names of types, and the types."""


class Row(NamedTuple):
    """One vector."""

    number: int
    """Line in the file, from 1."""
    cls: type[Message]
    """What the text was read as."""
    text: str | bytes
    """Bytes where they are no UTF-8."""
    why: str
    """The category."""
    ok: bool
    """A peer read the text, and could write it again."""
    echo: str | bytes | None
    """What the peer wrote after reading, which is how it understood the text."""
    error: str
    """The peer's words, where it could not."""
    newer_echo: str | bytes | None
    """What a peer with a newer YAML parser wrote, where that is known to differ."""

    @property
    def texts(self) -> list[str | bytes]:
        """Everything in the row that is a text of this type."""
        return [text for text in (self.text, self.echo, self.newer_echo) if text is not None]


def rows(name: str = "peer-behaviour") -> list[Row]:
    """The vectors of one file."""
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
