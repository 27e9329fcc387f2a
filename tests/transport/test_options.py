"""Arguments of the options of a connection."""

import pytest

from fastlib.transport import MemoryOptions, MqttOptions, TlsOptions, Will


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (
            lambda: MqttOptions(hots="b1", keepalive=5),
            "MqttOptions: unknown argument 'hots' (did you mean 'host'?); "
            "unknown argument 'keepalive' (did you mean 'keep_alive'?)",
        ),
        (lambda: TlsOptions(cafile="x"), "(did you mean 'ca_file'?)"),
        (lambda: Will(topic="t", zzz=1), "'zzz'; known are topic, payload, qos, retain"),
        (lambda: MemoryOptions(borker=None), "(did you mean 'broker'?)"),
    ],
)
def test_unknown_argument_is_named_with_the_nearest_one(make, error) -> None:
    with pytest.raises(TypeError) as raised:
        make()
    assert error in str(raised.value)
