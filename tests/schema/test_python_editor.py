"""What an editor shows for the messages and the client in Python: the real pyright."""

from pathlib import Path

import pytest

from tests.support.language_server import PythonServer
from tests.support.npm_packages import installed, needs_npm

pytestmark = [pytest.mark.load, needs_npm]

SCHEDULER = """\
import fastlib
from fastlib.client import AsyncMigfraClient, MigfraClient


def send(client: MigfraClient) -> None:
    fastlib.Migrate(vm_name="vm1", destination="node02")
    fastlib.Start(memory=4096)
    fastlib.MigrateParameter(max_downtime=50)
    client.migrate("vm1", "node01", "node02", migration_timeout=60, migration_type="live")
    client.suspend("vm1", timeout=5)


async def send_later(client: AsyncMigfraClient) -> None:
    await client.migrate("vm2", "node01", "node02", bandwidth_limit=100)
"""


@pytest.fixture(scope="module")
def editor(pytestconfig):
    with PythonServer(installed(pytestconfig, "pyright"), Path(__file__).parents[2]) as server:
        yield server


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("Migrate(", "Migrate a domain to another host."),
        ("destination=", "Name of the host to move to."),
        ("memory=", "Memory of the domain. Unit: KiB."),
        ("max_downtime=", "Maximum downtime of the domain at the end. Unit: ms."),
        ("migrate(", "**options: **MigrateOptions"),
        ("migration_timeout=", "seconds until the daemon applies `on_timeout`."),
        ("migration_type=", "live, warm or offline; absent means warm."),
        ("timeout=5", "Seconds until a NoResultError; None waits without a limit."),
        ("bandwidth_limit=", "Unit: "),
    ],
)
def test_hover_shows_description_and_unit(editor, word, shown):
    assert shown in editor.hover(SCHEDULER, word)
