"""The daemon asks the pscom processes of a domain over a broker. All of them must answer."""

import asyncio
import os

import pytest

from fastlib import MigrateParameter
from fastlib.migfra import Context, DaemonServices, HypervisorError
from fastlib.migfra.hypervisors.libvirt import LibvirtOptions
from fastlib.migfra.hypervisors.libvirt.migration.pscom import Answers, Pscom, process_count
from fastlib.migfra.hypervisors.libvirt.runtime import LibvirtRuntime
from fastlib.migfra.plugin_api.hypervisor import NodeContext
from fastlib.migfra.virt.migration_spec import MigrationSpec
from fastlib.transport import MemoryBroker, MemoryOptions, ReceivedMessage, connect_async
from fastlib.transport.messages import InboundMessage
from tests.support.waiting import try_with_more_time

PATIENCE_SECONDS = 30.0


@pytest.mark.parametrize("answering", [3, 2])
def test_suspend_and_resume_wait_for_all_processes(answering):
    asked = []

    async def scenario():
        broker = MemoryBroker()
        options = MemoryOptions(broker=broker)
        async with await connect_async(options) as own, await connect_async(options) as processes:

            async def answer(message):
                asked.append(message.payload)
                for number in range(answering):
                    await processes.send(b"done", f"fast/pscom/vm1/p{number}/response")

            await processes.subscribe("fast/pscom/vm1/any_proc/request", answer)
            pscom = Pscom(
                NodeContext("node01"),
                Context("node01", services=DaemonServices(communicator=own)),
                "vm1",
                3,
                PATIENCE_SECONDS if answering == 3 else 0.2,
            )  # fmt: skip
            await pscom.suspend()
            await pscom.resume()

    if answering == 3:
        asyncio.run(scenario())
        assert asked == [b"suspend", b"resume"]
    else:
        with pytest.raises(HypervisorError, match="2 of 3 pscom processes in vm1 have answered"):
            asyncio.run(scenario())


def received(topic, *, retain=False):
    message = InboundMessage(topic, b"[no: yaml", 0, retain=retain, duplicate=False, ack=None)
    return ReceivedMessage(message, 0, None)


def test_answers_count_each_process_once_and_ignore_retained_messages():
    answers = Answers("fast/pscom/vm1/+/response")
    for topic in ("fast/pscom/vm1/p0/response", "fast/pscom/vm1/p1/response"):
        answers.add(received(topic, retain=True))
    assert len(answers) == 0
    for process in ("p0", "p0", "p1", "p0"):
        answers.add(received(f"fast/pscom/vm1/{process}/response"))
    assert len(answers) == 2


def test_answers_without_a_level_for_the_process_count_messages():
    answers = Answers("pscom/vm1/response")
    answers.add(received("pscom/vm1/response", retain=True))
    for _ in range(2):
        answers.add(received("pscom/vm1/response"))
    assert len(answers) == 2


@pytest.mark.parametrize("retain", [True, False])
def test_suspension_needs_an_answer_of_each_process(retain):
    """Earlier answers, and several answers of one process, do not count for other processes."""

    async def scenario(seconds):
        options = MemoryOptions(broker=MemoryBroker())
        async with await connect_async(options) as own, await connect_async(options) as processes:
            for process in ("p0", "p1"):
                topic = f"fast/pscom/vm1/{process}/response"
                await processes.send(b"{", topic, retain=True)

            async def answer(message):
                for payload in (b"done", b"again"):
                    await processes.send(payload, "fast/pscom/vm1/p0/response", retain=retain)

            await processes.subscribe("fast/pscom/vm1/any_proc/request", answer)
            services = DaemonServices(communicator=own)
            context = Context("node01", services=services)
            await Pscom(NodeContext("node01"), context, "vm1", 2, seconds).suspend()

    def suspend(seconds):
        with pytest.raises(HypervisorError) as caught:
            asyncio.run(scenario(seconds))
        assert "1 of 2 pscom processes in vm1 have answered" in str(caught.value)

    try_with_more_time(suspend)


def count(text, **options):
    options = {"probe_hosts": ["127.0.0.1"], **options}
    runtime = LibvirtRuntime(LibvirtOptions(**options), NodeContext("node01"))
    spec = MigrationSpec(
        name="127.0.0.1",  # nobody listens there
        source="node01",
        destination="node02",
        parameter=MigrateParameter(),
        pscom_hook_procs=text,
    )
    return asyncio.run(process_count(runtime, spec))


def test_process_count_accepts_numbers_and_auto():
    assert [count(text) for text in (None, "0", "17")] == [0, 0, 17]
    for text in ("", "-1", "many", "1e3", "9999999"):
        with pytest.raises(HypervisorError, match="pscom-hook-procs must be a count or auto"):
            count(text)


@pytest.mark.parametrize(
    ("ssh", "why"),
    [
        ("echo words >&2; exit 255", "ssh 127.0.0.1 ended with status 255; read the daemon's"),
        ("echo words", "pscom-count-command must print a number; read its output"),
        ("exec sleep 60", "has not answered on SSH for 0.2 s"),
        ("exec head -c 3000000 /dev/zero", "ssh 127.0.0.1 wrote 65536 bytes or more; check"),
        ("exec head -c 3000000 /dev/zero >&2", "ssh 127.0.0.1 wrote 65536 bytes or more; check"),
        (None, "there is no program ssh; install it"),
    ],
)
def test_process_count_explains_failures_of_ssh(tmp_path, monkeypatch, caplog, ssh, why):
    """The log has the output of the other side, the answer does not.

    The laboratory's tests count real processes.
    """
    if ssh is not None:
        (tmp_path / "ssh").write_text(f"#!/bin/sh\n{ssh}\n")
        (tmp_path / "ssh").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HypervisorError, match=why) as caught:
        count("auto", pscom_timeout=0.2 if ssh == "exec sleep 60" else 60)
    assert "words" not in str(caught.value)
    assert ("words" in caplog.text) is (ssh is not None and "words" in ssh)


def test_processes_are_not_counted_at_an_address():
    """A task chooses the domain's name, so a name must not lead SSH to any address."""
    with pytest.raises(HypervisorError, match="add it to probe-hosts"):
        count("auto", probe_hosts=[])
