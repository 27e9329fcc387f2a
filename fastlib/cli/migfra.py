"""The program `migfra`: run the migration daemon."""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastlib import FastlibError, __version__
from fastlib.cli.arguments.message_files import Source, read_source
from fastlib.cli.arguments.parser import ArgumentParser
from fastlib.cli.output.problems import print_problems
from fastlib.codec.errors import ValidationError
from fastlib.display.text import printable
from fastlib.extras import needs_extra

if TYPE_CHECKING:
    from fastlib.migfra import Configuration
    from fastlib.migfra.service.daemonize import Daemonizer
    from fastlib.migfra.startup import Finding, Missing, StartUp
    from fastlib.transport import MqttOptions

log = logging.getLogger("fastlib.migfra")

_EPILOG = """\
examples:
  migfra -c /etc/migfra.yaml --check
  migfra -c /etc/migfra.yaml --check --online
  migfra -c /etc/migfra.yaml
  migfra -c /etc/migfra.yaml -d -l /var/log/migfra.log

signals:
  TERM, INT  give running tasks at most 'shutdown-timeout' seconds to finish,
             then end; a second signal ends the daemon at once
  HUP        read the level of the log again

The exit status is 0 after an orderly end, 1 if the daemon cannot work, or if --check finds a
problem, 2 for wrong usage or a file that cannot be read, 78 if the configuration is wrong.
"""


WRONG_CONFIGURATION: Final = 78
"""The exit status after which the unit of systemd does not restart the daemon (EX_CONFIG)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program with the arguments, by default of the process; return its exit status."""
    from fastlib.migfra.service.standard_streams import finish_streams, open_standard_streams

    open_standard_streams()
    try:
        return _main(arguments)
    except KeyboardInterrupt:  # before the daemon works, or of the foreground of -d
        from fastlib.cli import exit_by_signal

        return exit_by_signal("SIGINT")
    finally:
        finish_streams()


def _main(arguments: Sequence[str] | None) -> int:
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.online and not options.check:
        parser.error("--online belongs to --check")
    try:
        source = read_source(options.config)
    except OSError as error:
        return _print_error(f"{printable(options.config)}: {error.strerror or error}", 2)
    configuration = _read_configuration(source)
    if configuration is None:
        return 1 if options.check else WRONG_CONFIGURATION
    if options.check:
        return _check(source, configuration, options)
    status = _print_start_problems(source, configuration, options)
    if status:
        return status
    try:
        return _run(configuration, options)
    except (FastlibError, OSError) as error:
        return _print_error(str(error), _status_of(error))


def make_parser() -> ArgumentParser:
    """Return the parser of the program."""
    parser = ArgumentParser(
        prog="migfra",
        description="Executes the tasks that a scheduler sends to this host.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="the configuration")
    parser.add_argument(
        "-d",
        "--daemon",
        action="store_true",
        help="continue in the background when the daemon works",
    )
    parser.add_argument(
        "-l", "--log", metavar="FILE", help="log to a file instead of to standard error"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="print every reason why a start would fail, and end: the configuration, "
        "packages, files, ports, the hypervisor; it changes nothing, and reports a running daemon",
    )
    parser.add_argument(
        "--online",
        action="store_true",
        help="with --check: also query the broker and the hypervisor, and measure how "
        "fast the broker answers",
    )
    parser.add_argument("--version", action="version", version=f"migfra {__version__}")
    return parser


def _print_error(text: str, status: int) -> int:
    from fastlib.migfra.service.standard_streams import print_safely

    print_safely(f"migfra: error: {text}")
    return status


def _print_warning(text: str) -> None:
    from fastlib.migfra.service.standard_streams import print_safely

    print_safely(f"migfra: warning: {text}")


def _read_configuration(source: Source) -> "Configuration | None":
    """Print the problems of a configuration. Return it unless there are errors."""
    from fastlib.migfra import Configuration, check_configuration

    report = check_configuration(source.data)
    with suppress(OSError, ValueError):  # standard error may be closed
        print_problems(source, report.problems, sys.stderr)
    if not report.ok:
        return None
    assert isinstance(report.message, Configuration)
    try:
        _ = report.message.host
    except ValidationError as error:
        _print_error(str(error), 1)
        return None
    return report.message


def _start_up(configuration: "Configuration", options: argparse.Namespace) -> "StartUp":
    from fastlib.migfra.startup import StartUp

    log_file = None if options.log is None else Path(options.log).absolute()
    return StartUp(configuration, Path(options.config).resolve(), log_file)


def _check(source: Source, configuration: "Configuration", options: argparse.Namespace) -> int:
    """Print every reason why a start would fail. With `--online`, also query other programs."""
    from fastlib.migfra.startup import find_problems

    found = [*find_problems(_start_up(configuration, options))]
    _print_findings(source, found)
    if any(finding.severity == "error" for finding in found):
        return 1
    return _check_online(source, configuration, options) if options.online else 0


def _print_start_problems(
    source: Source, configuration: "Configuration", options: argparse.Namespace
) -> int:
    """Print and log the reasons why a start would fail, like `--check`. Return the status."""
    from fastlib.migfra.startup import find_problems
    from fastlib.migfra.telemetry.logs import set_up

    start = _start_up(configuration, options)
    found = [*find_problems(start, only_before_start=True)]
    if not found:
        return 0
    _print_findings(source, found)
    if start.log_file is not None:  # standard error may be closed
        with suppress(OSError):  # it is among the reasons
            set_up(
                configuration.log.level, configuration.log.format, start.log_file,
                configuration.host,
            )  # fmt: skip
            for finding in found:
                log.critical("%s", finding.problem(source.data).message)
    return max(_status_of(finding.error) for finding in found)


def _print_findings(source: Source, found: "Sequence[Finding]") -> None:
    with suppress(OSError, ValueError):  # standard error may be closed
        for finding in found:
            problem = finding.problem(source.data)
            if finding.keys:
                print_problems(source, [problem], sys.stderr)
            elif finding.severity == "error":
                _print_error(problem.message, 1)
            else:
                _print_warning(problem.message)


def _check_online(
    source: Source, configuration: "Configuration", options: argparse.Namespace
) -> int:
    """Query the hypervisor, and each broker like the daemon. Print how fast the broker answers.

    It uses the daemon's client id, so the daemon must not run.
    """
    from fastlib.migfra.errors import RunningError
    from fastlib.migfra.journal.lock import lock_of
    from fastlib.migfra.service.lock import InstanceLock

    start = _start_up(configuration, options)
    try:
        with InstanceLock(start.lock):
            journal_lock = lock_of(configuration.journal_path())
            if (running := start.process_with_journal()) is not None:
                raise RunningError(str(journal_lock), running or None)
            brokers = configuration.mqtt_options().one_by_one()
            host = configuration.host
            status = max([_check_broker(broker, host, len(brokers) > 1) for broker in brokers])
            return max(status, _check_hypervisor(source, configuration, options))
    except (FastlibError, OSError) as error:
        return _print_error(str(error), _status_of(error))


def _check_hypervisor(
    source: Source, configuration: "Configuration", options: argparse.Namespace
) -> int:
    """Open the hypervisor like the daemon, and print what it cannot reach."""
    from fastlib.migfra.startup import ask_hypervisor

    found = [*ask_hypervisor(_start_up(configuration, options))]
    _print_findings(source, found)
    if not found:
        print(f"the hypervisor {configuration.hypervisor.type.name} can be opened")
    return 1 if found else 0


def _check_broker(broker: "MqttOptions", host: str, is_one_of_several: bool) -> int:
    from fastlib.migfra.startup import undelivered_topics
    from fastlib.transport.broker_url import address_text

    with needs_extra("MQTT", "paho"):
        from fastlib.transport.mqtt.round_trip import measure_round_trip
    try:
        found = measure_round_trip(broker)
        missing = [*undelivered_topics(broker, host)]
    except (FastlibError, OSError) as error:
        return _print_error(str(error), _status_of(error))
    which = f" at {address_text(*broker.brokers[0])}" if is_one_of_several else ""
    print(f"the broker{which} accepts the daemon, and answers within {_milliseconds(found.answer)}")
    if found.remedy is not None:
        _print_warning(found.remedy)
    for topic in missing:
        _print_missing(topic, host, which)
    return 1 if any(topic.is_needed for topic in missing) else 0


def _print_missing(missing: "Missing", host: str, which: str) -> None:
    """Print what it means that a message of the daemon to one of its own topics is missing."""
    if missing.is_needed:
        _print_error(
            f"{missing.topic}: {missing.reason}{which}; the daemon's user must be able to read its "
            "tasks, and to read and write its status: 'fastlib files DIR' has an access list",
            1,
        )
    else:
        print(
            f"{missing.topic}: {missing.reason}{which}. That is right if the daemon's user may "
            f"only read it, as in the access list of 'fastlib files DIR'. 'fastlib query --host "
            f"{host}' shows later whether the daemon gets its tasks"
        )


def _milliseconds(seconds: float) -> str:
    """Return a time in milliseconds; one below a millisecond has two significant digits."""
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f} ms" if milliseconds >= 1 else f"{milliseconds:.2g} ms"


def _run(configuration: "Configuration", options: argparse.Namespace) -> int:
    from fastlib.migfra.service.daemonize import Daemonizer
    from fastlib.migfra.service.lock import InstanceLock, lock_path
    from fastlib.migfra.service.memory import return_large_blocks
    from fastlib.migfra.service.standard_streams import print_safely
    from fastlib.migfra.telemetry.logs import set_up

    path = Path(options.config).resolve()
    log_file = None if options.log is None else Path(options.log).absolute()
    daemonizer = Daemonizer()
    if options.daemon:
        if log_file is None:
            print_safely(
                "migfra: warning: without -l FILE the daemon logs nothing while it works in the "
                "background"
            )
        status = daemonizer.enter(_waiting(configuration, log_file))
        if status is not None:
            return status
    try:
        with InstanceLock(lock_path(path, configuration.host)):
            set_up(configuration.log.level, configuration.log.format, log_file, configuration.host)
            return_large_blocks()
            try:
                return asyncio.run(_serve(configuration, path, daemonizer))
            except (FastlibError, OSError) as error:
                if log_file is not None:  # standard error may be closed
                    log.critical("%s", error)
                raise
            except Exception as error:
                log.critical("the program failed unexpectedly: %r", error, exc_info=error)
                daemonizer.failed(f"migfra: error: {error!r}")
                return 1
    except (FastlibError, OSError) as error:
        if not options.daemon:
            raise
        daemonizer.failed(f"migfra: error: {error}")
        return _status_of(error)


def _waiting(configuration: "Configuration", log_file: Path | None) -> str:
    """Return the text of the foreground about a daemon that is slow to start."""
    hosts = " or ".join(configuration.communicator.host)
    shown = "" if log_file is None else f"; the log {printable(str(log_file))} has details"
    return (
        f"migfra: the daemon does not work yet; it may be waiting for the broker at {hosts}"
        f"{shown}. Ctrl-C ends only this command; the daemon continues in the background"
    )


def _status_of(error: Exception) -> int:
    from fastlib.migfra import ConfigurationError
    from fastlib.transport import OptionsError

    return WRONG_CONFIGURATION if isinstance(error, ConfigurationError | OptionsError) else 1


async def _serve(configuration: "Configuration", path: Path, daemonizer: "Daemonizer") -> int:
    """Run the daemon until a signal or a task `quit` ends it."""
    from fastlib.migfra.daemon import Daemon
    from fastlib.migfra.service.memory import collect_rarely
    from fastlib.migfra.service.systemd import feed_watchdog, notify
    from fastlib.migfra.telemetry.blocked_loop import LoopWatch

    loop = asyncio.get_running_loop()
    daemon = Daemon(configuration)
    opening = asyncio.create_task(daemon.open())

    def end() -> None:
        if daemon.stopping:
            log.warning("second request to end: ending at once")
            opening.cancel()
            daemon.stop_now()
            return
        notify("STOPPING=1")
        daemon.stop()
        if not opening.done():
            opening.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, _reload_log_level, path)
    try:
        await opening
    except asyncio.CancelledError:
        log.info("ended during the start")
        return 0
    log.info(
        "migfra %s works on %s with the hypervisor %s",
        __version__, daemon.host, daemon.hypervisor.name,
    )  # fmt: skip
    collect_rarely()
    notify("READY=1")
    daemonizer.works()
    watchdog = asyncio.create_task(feed_watchdog())
    watch = LoopWatch()
    try:
        await daemon.ended.wait()
    finally:
        watch.end()
        watchdog.cancel()
    return 0 if daemon.failure is None else 1


def _reload_log_level(path: Path) -> None:
    """Handle SIGHUP: set the log level of the file. An invalid file changes nothing."""
    from fastlib.migfra import Configuration, check_configuration
    from fastlib.migfra.telemetry.logs import set_level

    try:
        report = check_configuration(path.read_bytes())
    except OSError as error:
        log.error("reading the configuration again failed: %s", error)
        return
    if not isinstance(report.message, Configuration):
        problems = "; ".join(str(problem) for problem in report.errors)
        log.error("the configuration is wrong; the log level does not change: %s", problems)
        return
    level = report.message.log.level
    set_level(level)
    log.log(logging.INFO if level in ("debug", "info") else logging.ERROR, "log level: %s", level)


if __name__ == "__main__":
    sys.exit(main())
