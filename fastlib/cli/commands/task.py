"""`fastlib migrate` and the other commands that send one task to the daemon of a host."""

import argparse
from inspect import cleandoc

from fastlib.cli.arguments.broker import add_broker_options
from fastlib.cli.arguments.task_names import summary_of
from fastlib.cli.arguments.task_options import TaskOptions
from fastlib.cli.arguments.values import host_name
from fastlib.cli.errors import EXIT_STATUS_HELP
from fastlib.cli.sending import add_order_options, add_result_options, send_containers
from fastlib.codec.errors import MessageError
from fastlib.message import TaskContainer
from fastlib.message.task import TaskDeclaration


def add_arguments(parser: argparse.ArgumentParser, declared: TaskDeclaration) -> None:
    """Add the options of a task, derived from its declaration."""
    doc = cleandoc(declared.type.__doc__ or f"{summary_of(declared)}.")
    parser.description = (
        f"{doc}\n\nSends '{declared.task}' to the daemon of a host and waits for its result."
    )
    parser.epilog = EXIT_STATUS_HELP
    host = parser.add_argument_group("the host")
    task = TaskOptions(declared, parser)
    host_option = host.add_argument(
        *(["--from", "--host"] if task.moves else ["--host"]),
        dest="host",
        metavar="HOST",
        type=host_name,
        required=True,
        help="the host whose daemon does it",
    )
    result = parser.add_argument_group("the result")
    result.add_argument(
        "--no-wait",
        dest="wait",
        action="store_false",
        help="print the task's id as soon as the broker has confirmed the message",
    )
    add_result_options(result)
    if task.has_field("id"):
        parser.set_defaults(container_id=None)
    else:
        result.add_argument(
            "--id",
            dest="container_id",
            metavar="ID",
            help="the id to send it with, which the result repeats; fastlib's daemon executes it "
            "only once (default: one that no other has)",
        )
    add_order_options(parser.add_argument_group("the order"))
    add_broker_options(parser)
    task.add()
    shown = [*task.required, "[OPTION ...]"]
    parser.usage = f"%(prog)s {host_option.option_strings[0]} HOST {' '.join(shown)}"
    parser.set_defaults(task=task)


def run(options: argparse.Namespace) -> int:
    task = options.task.task(options, options.parser)
    try:
        container = TaskContainer(tasks=[task], id=options.container_id or None)
    except MessageError as error:
        options.parser.error("; ".join(map(str, error.problems)))
    return send_containers(options, [container])
