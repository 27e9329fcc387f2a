"""A broker, the environment in which commands find it, and a daemon."""

from collections.abc import Iterator

import pytest

from tests.support.mosquitto import Mosquitto
from tests.support.shell import Daemon, Environment, address


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path_factory.mktemp("cli-broker")) as broker:
        yield broker


@pytest.fixture
def env(mosquitto: Mosquitto) -> Environment:
    return address(mosquitto)


@pytest.fixture
def daemon(mosquitto: Mosquitto) -> Iterator[Daemon]:
    with Daemon(mosquitto) as daemon:
        yield daemon
