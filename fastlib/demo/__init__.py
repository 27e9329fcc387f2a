"""Run the whole system on a simulated cluster, and check that it works.

A scheduler starts VMs, migrates them, cancels a migration, and a daemon is killed. The client, the
transport, the journal, the dispatcher and the daemons are real; only the machines are simulated::

    summary = asyncio.run(run(Settings(), TextView(print)))
    assert summary.ok
"""

from .errors import ScenarioError, SettingsError
from .json_view import JsonView
from .runner import run
from .settings import Settings
from .summary import Step, Summary
from .text_view import TextView
from .view import View

__all__ = [
    "JsonView",
    "ScenarioError",
    "Settings",
    "SettingsError",
    "Step",
    "Summary",
    "TextView",
    "View",
    "run",
]
