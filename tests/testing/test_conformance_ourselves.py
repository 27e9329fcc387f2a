"""fastlib's side of a conformance run: it agrees with itself, and answers every request."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fastlib
from fastlib import Cancel, Stop, TaskContainer
from fastlib.extras import install_command
from fastlib.message import agent
from fastlib.message.describe import find
from fastlib.testing.conformance import PeerAnswer, PeerRequest, protocol, run, serve
from fastlib.testing.conformance.server import answer
from tests.support.conformance import wrong_peer

OURS = [sys.executable, "-m", "fastlib", "conformance", "--serve"]
WRONG = Path(wrong_peer.__file__)


def answers(*lines: bytes | dict) -> list[dict]:
    data = b"".join(
        (json.dumps(line).encode() if isinstance(line, dict) else line) + b"\n" for line in lines
    )
    out = io.BytesIO()
    serve(io.BytesIO(data), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


FEW = "mmbwmon.Ack,agent.Init,agent.Kpis,mmbwmon.Reply,PciAddress,Timing,Cancel,pscom.PscomRequest"


@pytest.mark.parametrize(
    "names", [FEW, pytest.param("", marks=pytest.mark.load)], ids=["few", "all"]
)
def test_fastlib_agrees_with_itself(names: str, request: pytest.FixtureRequest) -> None:
    examples = 500 if request.config.getoption("--long") else 2
    # The other side runs in its own process, which knows no declarations of other tests.
    own = [cls for cls in protocol.types() if cls.__module__.startswith("fastlib.message.")]
    own = [find(name, by_title=False) for name in names.split(",") if name] or own
    report = run(OURS, types=own, examples=examples)
    assert report.differences == []
    assert report.ok
    assert report.requests > 1000
    assert report.types == [protocol.type_name(cls) for cls in own]


def test_progress_is_reported() -> None:
    reported = []
    report = run(OURS, types=[Cancel, agent.Init], examples=1, progress=reported.append)
    assert report.types == ["Cancel", "agent.Init"]
    assert [each.number for each in reported] == [*range(1, 15)]


@pytest.mark.load
def test_peers_may_answer_with_json() -> None:
    names = ["Timing", "Cancel", "mmbwmon.Ack", "mmbwmon.Reply", "agent.Kpis"]
    types = [find(name, by_title=False) for name in names]
    report = run([sys.executable, str(WRONG), "as-json"], types=types, examples=2)
    assert report.differences == []
    assert report.requests > 500


def test_runs_with_one_seed_ask_the_same() -> None:
    def asked(seed: int) -> list[str]:
        texts = []

        def program(request: PeerRequest) -> PeerAnswer:
            texts.append(request.yaml)
            return answer(request, known)

        assert run(program, types=[agent.Init], examples=4, seed=seed).ok
        return texts

    known = {}
    first = asked(7)
    assert first == asked(7)
    assert first != asked(8)


def test_every_type_is_found_by_its_name() -> None:
    for cls in protocol.types():
        assert protocol.type_of(protocol.type_name(cls)) is cls


def test_request_is_answered() -> None:
    message = TaskContainer.from_yaml("task: quit")
    first, second, third = answers(
        {"type": "TaskContainer", "yaml": "{task: quit}"},
        {"type": "agent.Init", "yaml": "hostname: no"},
        {"type": "Stop", "yaml": "vm-name: [a]", "more": 1},
    )
    assert first == {"ok": True, "emit": message.to_yaml()}
    assert agent.Init.from_yaml(second["emit"]).hostname == "no"
    assert third == {
        "ok": False,
        "error": "Stop: line 1, column 10: vm-name: expected text; got a list",
    }


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"[]", b"1", b'"a"', b"null", b"\xff", b"\0", b"[" * 100_000, b"{}",
        b'{"type": "Stop"}', b'{"yaml": "a"}', b'{"type": 1, "yaml": "a"}',
        b'{"type": "Stop", "yaml": null}', b'{"type": "Stopp", "yaml": ""}',
        b'{"type": "Stop", "yaml": "\\ud800"}', b'{"type": "\\ud800", "yaml": ""}',
        b'{"type": "", "yaml": ""}', b'{"type": "start vm", "yaml": "xml: a"}',
        b'{"type": "Stop", "yaml": "\\u0000"}', b'{"type": "Stop", "yaml": ["a"]}',
    ],
)  # fmt: skip
def test_garbage_is_answered_with_an_error(line: bytes) -> None:
    first, second = answers(line, {"type": "Stop", "yaml": "vm-name: a"})
    assert first["ok"] is False
    assert first["error"]
    assert second["ok"] is True


def test_line_that_is_too_long_is_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastlib.testing.conformance.server.LONGEST_LINE", 100)
    exact = b'{"type": "Stop", "yaml": "vm-name: a"}'
    found = answers(exact.ljust(99), exact.ljust(100), b"x" * 1000, exact)
    assert [each["ok"] for each in found] == [True, False, False, True]


def test_serving_needs_no_hypothesis() -> None:
    program = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "from fastlib.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    serving = [sys.executable, "-c", program, "conformance"]
    request = b'{"type": "Stop", "yaml": "vm-name: a"}\n'
    done = subprocess.run([*serving, "--serve"], input=request, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout)["ok"]
    done = subprocess.run([*serving, "--", "true"], capture_output=True, text=True)
    assert done.returncode == 2
    assert install_command("testing") in done.stderr
    assert "Traceback" not in done.stderr


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError):
        run(OURS, types=[int])


def test_tree_is_written_as_yaml() -> None:
    found = protocol.read_answer(b'{"ok": true, "emit": {"vm-name": "no", "force": true}}')
    assert fastlib.Stop.from_yaml(found.emit) == Stop(vm_name="no", force=True)
