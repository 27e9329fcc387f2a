"""Arguments of wrong types: a TypeError names the argument and the remedy."""

import asyncio
import inspect
import math
import pydoc
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fastlib.client import AsyncMigfraClient, MigfraClient
from fastlib.transport import (
    EmbeddedBroker,
    MemoryBroker,
    MemoryOptions,
    MosquittoBroker,
    MqttOptions,
    OptionsError,
    TlsOptions,
    Will,
    connect,
    connect_async,
)

BROKER = MemoryBroker()
OPTIONS = MemoryOptions(broker=BROKER)


class Made:
    """A client and a communicator."""

    def __init__(self) -> None:
        self.client: Any = MigfraClient.connect(OPTIONS)
        self.communicator: Any = connect(OPTIONS)
        self.communicator.subscribe("queue")


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    made = Made()
    yield made
    made.client.close()
    made.communicator.close()


Call = Callable[[Made], object]
MQTT: Any = MqttOptions
CLIENT: Any = MigfraClient
ASYNC_CLIENT: Any = AsyncMigfraClient
CONNECT: Any = connect
CONNECT_ASYNC: Any = connect_async

CALLS: list[tuple[Call, str]] = [
    (lambda m: CLIENT.connect(OPTIONS, tiemout=3), r"MigfraClient.connect: .*mean 'timeout'"),
    (lambda m: CLIENT(m.communicator, clock=1, tolerance=3), "did you mean 'clock_tolerance'"),
    (lambda m: ASYNC_CLIENT.connect(OPTIONS, conect_timeout=3), "mean 'connect_timeout'"),
    (lambda m: m.client.watch(result=True), "watch: unknown argument 'result' .*mean 'results'"),
    (lambda m: m.client.cancel("hostA", "id", tiemout=3), "cancel: .*mean 'timeout'"),
    (lambda m: m.client.cancel("hostA", "id", zzz=3), "'zzz'; known are host, id, timeout"),
    (lambda m: CONNECT(OPTIONS, timout=3), "connect: .*mean 'timeout'"),
    (lambda m: CONNECT_ASYNC(OPTIONS, timout=3), "connect_async: .*mean 'timeout'"),
    (lambda m: CLIENT("localhost"), r"`communicator`.*not str:.*`MigfraClient.connect\("),
    (lambda m: CLIENT(OPTIONS), r"`communicator`.*`MigfraClient.connect\("),
    (lambda m: CLIENT(None), r"`communicator`.*`MigfraClient.connect\("),
    (lambda m: ASYNC_CLIENT(m.communicator), "`communicator`.*`MigfraClient` uses this one"),
    (lambda m: ASYNC_CLIENT("localhost"), r"`communicator`.*`AsyncMigfraClient.connect\("),
    (lambda m: CLIENT(m.communicator, timeout="3"), "`timeout`.*not a str: write timeout=3"),
    (lambda m: CLIENT(m.communicator, timeout=True), "`timeout`.*number.*not a bool"),
    (lambda m: CLIENT(m.communicator, clock_tolerance="3"), "`clock_tolerance`.*=3 without"),
    (lambda m: CLIENT(m.communicator, clock_tolerance=None), "`clock_tolerance`.*not None"),
    (lambda m: CLIENT.connect(None), "`broker` must be a host, a URL, .*not NoneType"),
    (lambda m: CLIENT.connect(BROKER), r"`broker`.*MemoryOptions\(broker="),
    (lambda m: CLIENT.connect(m.communicator), "`broker`.*constructor"),
    (lambda m: CLIENT.connect("127.0.0.1:1", connect_timeout="3"), "`connect_timeout`.*=3"),
    (lambda m: m.client.suspend(None, "vm1"), "`host` must be a str, not None"),
    (lambda m: m.client.suspend(5, "vm1"), "`host` must be a str, not an int"),
    (lambda m: m.client.suspend("h", "vm1", timeout="3"), "`timeout`.*write timeout=3"),
    (lambda m: m.client.suspend("h", "vm1", timeout=False), "`timeout`.*not a bool"),
    (lambda m: m.client.cancel("h", "id", timeout="soon"), "`timeout` must be a number.*not a str"),
    (lambda m: m.client.suspend("h", "vm1", on_progress=3), "`on_progress` must be a function"),
    (lambda m: m.client.suspend("h", "vm1", only_if_online="no"), "`only_if_online` must be True"),
    (lambda m: m.client.suspend("h", "vm1", expires=3), r"'expires'.*timedelta\(seconds=3\)"),
    (lambda m: m.client.submit("h", "suspend"), "`work` must be.*not str; .*`fastlib.load`"),
    (lambda m: m.client.submit("h", None), "`work` must be.*not NoneType"),
    (lambda m: m.client.watch(tasks="all"), "`tasks` must be True or False"),
    (lambda m: m.client.close("3"), "`timeout`.*write timeout=3"),
    (lambda m: m.client.suspend("h", "vm1").result("3"), "`timeout`.*write timeout=3"),
    (lambda m: m.client.suspend("h", "vm1").add_done_callback(3), "`callback` must be a function"),
    (lambda m: connect("localhost"), r"`options`.*not str.*MqttOptions.from_url"),  # type: ignore[arg-type]
    (lambda m: connect(OPTIONS, timeout="3"), "`timeout`.*=3"),  # type: ignore[arg-type]
    (lambda m: m.communicator.send("x", "topic"), r"bytes, not str; write payload.encode\(\)"),
    (lambda m: m.communicator.send(b"x", 5), "`topic` must be a str or None, not an int"),
    (lambda m: m.communicator.send(b"x", "topic", retain="no"), "`retain` must be True or False"),
    (lambda m: m.communicator.send(b"x", "topic", expiry="3"), "`expiry`.*write expiry=3"),
    (lambda m: m.communicator.send(b"x", "topic", timeout="3"), "`timeout`.*write timeout=3"),
    (lambda m: m.communicator.send(b"x", "topic").wait("3"), "`timeout`.*write timeout=3"),
    (lambda m: m.communicator.subscribe(5), "`topic` must be a str, not an int"),
    (lambda m: m.communicator.subscribe("a", 5), "`callback` must be a function, not an int"),
    (lambda m: m.communicator.subscribe("a", timeout="3"), "`timeout`.*write timeout=3"),
    (lambda m: m.communicator.subscribe("a", manual_ack=1), "`manual_ack` must be True or False"),
    (lambda m: m.communicator.receive(5), "`topic` must be a str or None, not an int"),
    (lambda m: m.communicator.receive("queue", timeout="3"), "`timeout`.*write timeout=3"),
    (lambda m: m.communicator.unsubscribe(5), "`topic` must be a str"),
    (lambda m: m.communicator.on_close(5), "`callback` must be a function"),
    (lambda m: m.communicator.on_reconnect(5), "`callback` must be a function"),
    (lambda m: m.communicator.on_refused(5), "`callback` must be a function"),
    (lambda m: m.communicator.close("3"), "`timeout`.*write timeout=3"),
    (lambda m: MQTT(host=None), "`host` must be"),
    (lambda m: MQTT(port="1883"), "`port` must be an int or None, not a str: write port=1883"),
    (lambda m: MQTT(port=True), "`port` must be an int or None, not a bool"),
    (lambda m: MQTT(keep_alive=60.0), "`keep_alive` must be an int, not a float"),
    (lambda m: MQTT(retry_min="1"), "`retry_min` must be a number, not a str: write retry_min=1"),
    (lambda m: MQTT(persistent="no", client_id="me"), "`persistent` must be a bool, not a str"),
    (lambda m: MQTT(tls=True), "`tls` must be a TlsOptions or None, not a bool"),
    (lambda m: MQTT(will=b"gone"), "`will` must be a Will or None, not bytes"),
    (lambda m: MQTT(username="u", password=b"s3cret"), "`password` must be a str or None, not by"),
    (lambda m: MQTT(username="u", password_file=5), "`password_file` must be a Path or a str or N"),
    (lambda m: MemoryOptions(broker="b"), "`broker` must be a MemoryBroker"),  # type: ignore[arg-type]
    (lambda m: MemoryBroker(largest_packet=True), "`largest_packet` must be an int or None"),
    (lambda m: EmbeddedBroker(port=True), "`port` must be an int, not a bool"),
    (lambda m: EmbeddedBroker(port="1883"), "`port` must be an int.*port=1883"),  # type: ignore[arg-type]
    (lambda m: MosquittoBroker(port=True), "`port` must be an int, not a bool"),
    (lambda m: MosquittoBroker(port=0, largest_packet=2.0), "`largest_packet` must be an int"),  # type: ignore[arg-type]
    (lambda m: TlsOptions(ca_file=5), "`ca_file` must be a Path or a str or None"),  # type: ignore[arg-type]
    (lambda m: Will(topic="a", payload="x"), "`payload` must be bytes, not a str"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "words"), CALLS, ids=range(len(CALLS)))
def test_argument_of_a_wrong_type_is_named(made: Made, call: Call, words: str):
    with pytest.raises(TypeError, match=words) as caught:
        call(made)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("password", ["12345", "s3cret"])
def test_password_is_not_shown_where_another_type_is_expected(password: str):
    with pytest.raises(TypeError) as caught:
        MqttOptions(username=[password])  # type: ignore[arg-type]
    assert password not in str(caught.value)
    with pytest.raises(TypeError) as caught:
        MigfraClient(f"mqtt://user:{password}@broker")  # type: ignore[arg-type]
    assert password not in str(caught.value)


def number_options() -> list[tuple[Any, str]]:
    """Return all options that are numbers, each with a function that makes the other options."""
    made: list[tuple[Any, dict[str, Any]]] = [
        (MqttOptions, {}),
        (MemoryOptions, {"broker": BROKER}),
        (Will, {"topic": "a"}),
    ]
    return [
        (partial(kind, **others), field.name)
        for kind, others in made
        for field in msgspec.structs.fields(kind)
        if re.search(r"\b(int|float)\b|Literal\[0", str(field.type))
    ]


@pytest.mark.parametrize(("make", "name"), number_options())
@pytest.mark.parametrize("value", [True, "1", 1j, math.nan, math.inf])
def test_option_refuses_bool_and_infinite_number(make: Any, name: str, value: Any):
    with pytest.raises((TypeError, OptionsError), match=name.replace("qos", "qos|quality")):
        make(**{name: value})


def test_all_options_that_are_numbers_are_tested():
    names = {name for _, name in number_options()}
    assert {"qos", "keep_alive", "retry_min", "port", "largest_packet", "max_queued"} <= names


def test_numbers_and_paths_of_other_types_are_taken(tmp_path: Path):
    options = MqttOptions(retry_min=1, retry_max=2, username="u", password_file=tmp_path / "p")
    assert (options.retry_min, options.retry_max) == (1, 2)


@pytest.mark.parametrize("qos", [True, "1", None, 3, 1.0])
def test_quality_of_service_must_be_an_int(made: Made, qos: Any):
    for call in (
        lambda: made.communicator.send(b"", "a", qos=qos),
        lambda: made.communicator.subscribe("a", qos=qos),
    ):
        with pytest.raises(OptionsError, match="a quality of service must be 0, 1 or 2, not"):
            call()


def test_nan_is_refused_as_timeout(made: Made):
    for call in (
        lambda: made.communicator.receive("queue", timeout=math.nan),
        lambda: made.communicator.close(math.nan),
        lambda: connect(OPTIONS, timeout=math.nan),
        lambda: made.client.suspend("h", "vm1", timeout=math.nan),
    ):
        with pytest.raises(ValueError, match=r"seconds.*nan|seconds.*NaN"):
            call()


def test_coroutines_also_check_their_arguments():
    async def main() -> None:
        with pytest.raises(TypeError, match="`broker` must be"):
            await AsyncMigfraClient.connect(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="`options` must be"):
            await connect_async("localhost")  # type: ignore[arg-type]
        async with await connect_async(OPTIONS) as one:
            wrong: Any = one
            with pytest.raises(TypeError, match=r"`communicator`.*`AsyncMigfraClient` uses"):
                MigfraClient(wrong)
            with pytest.raises(TypeError, match=r"write payload.encode"):
                await wrong.send("x", "a")
            with pytest.raises(TypeError, match="`timeout`"):
                await wrong.subscribe("a", timeout="3")
            with pytest.raises(TypeError, match="`timeout`"):
                await wrong.close("3")
            with pytest.raises(TypeError, match="`callback`"):
                wrong.on_close(3)

    asyncio.run(main())


# --- keyword options ------------------------------------------------------------------------------

METHODS: list[tuple[str, tuple[Any, ...]]] = [
    ("submit", ("hostA", [])),
    ("start", ("hostA", "vm1")),
    ("stop", ("hostA", "vm1")),
    ("suspend", ("hostA", "vm1")),
    ("resume", ("hostA", "vm1")),
    ("repin", ("hostA", "vm1", [[0]])),
    ("migrate", ("vm1", "hostA", "hostB")),
    ("evacuate", ("hostA", ["hostB"])),
    ("query", ("hostA",)),
    ("history", ("hostA",)),
    ("quit", ("hostA",)),
]


def test_unknown_options_are_named_with_the_nearest(made: Made) -> None:
    with pytest.raises(TypeError) as caught:
        made.client.migrate("vm1", "hostA", "hostB", migration_typ="live", timout=3, zzz=1)
    assert str(caught.value) == (
        "migrate: unknown options 'migration_typ' (did you mean 'migration_type'?), 'timout' "
        "(did you mean 'timeout'?), 'zzz'"
    )


@pytest.mark.parametrize(("method", "arguments"), METHODS)
def test_every_method_names_its_unknown_options(
    made: Made, method: str, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(TypeError, match=rf"^{method}: unknown option 'idd' \(did you mean 'id'"):
        getattr(made.client, method)(*arguments, idd=3)


@pytest.mark.parametrize(("method", "arguments"), METHODS[1:])
def test_none_is_the_same_as_not_given(made: Made, method: str, arguments: tuple[Any, ...]) -> None:
    call = getattr(made.client, method)
    names = set(inspect.signature(call).parameters) - {"timeout", "expires", "regex"}
    given = dict.fromkeys(names - set(inspect.signature(call).bind(*arguments).arguments))
    with_none, plain = call(*arguments, **given), call(*arguments)
    changes = {"id": None, "idempotency_key": None, "expires": None}
    assert msgspec.structs.replace(with_none.container, **changes) == msgspec.structs.replace(
        plain.container, **changes
    )
    assert "extensions" in names or method == "quit"


def test_none_of_timeout_and_expires_has_a_meaning(made: Made) -> None:
    handle = made.client.suspend("hostA", "vm1", timeout=None, expires=None)
    assert handle.container.expires is None
    assert handle._request.timeout is None


@pytest.mark.parametrize("client", [MigfraClient, AsyncMigfraClient])
@pytest.mark.parametrize("method", [name for name, _ in METHODS])
def test_signature_lists_the_options(client: Any, method: str) -> None:
    """`help` and interactive shells show it."""
    signature = inspect.signature(getattr(client, method))
    parameters = signature.parameters
    assert parameters["idempotency_key"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "<not given>" in str(parameters["idempotency_key"])
    assert all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    if method == "migrate":
        assert parameters["bandwidth_limit"].annotation == int | None
        assert list(parameters)[:4] == ["self", "vm_name", "source", "destination"]
        assert "bandwidth_limit" in pydoc.plain(pydoc.render_doc(client.migrate))


def test_misspelt_argument_of_a_coroutine_is_named():
    async def watch() -> None:
        async with AsyncMigfraClient.connect(OPTIONS) as client:
            untyped: Any = client
            assert inspect.iscoroutinefunction(client.watch)
            await untyped.watch(result=True)

    with pytest.raises(TypeError, match=r"AsyncMigfraClient.watch: .*did you mean 'results'"):
        asyncio.run(watch())
