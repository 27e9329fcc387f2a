"""A story that shows the whole system at work on a simulated cluster, and checks what it shows.

A scheduler starts VMs, moves them, cancels, and loses a daemon, with the real client, transport,
journal, dispatcher and daemons; only the machines are simulated::

    summary = asyncio.run(play(Settings(), Lines(print)))
    assert summary.ok
"""

from .errors import SettingsError, StoryError
from .json_lines import JsonLines
from .lines import Lines
from .play import play
from .settings import Settings
from .summary import Summary
from .view import View

__all__ = [
    "JsonLines",
    "Lines",
    "Settings",
    "SettingsError",
    "StoryError",
    "Summary",
    "View",
    "play",
]
