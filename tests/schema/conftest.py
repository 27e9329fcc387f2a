"""The schemas of today's types."""

import pytest

from tests.support.schema.commands import fastlib


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """The folder of schemas as it is made from today's types."""
    folder = tmp_path_factory.mktemp("schemas")
    fastlib("schema", "--no-extensions", "--write", folder, cwd=folder)
    return folder
