"""`fastlib migrate` and the other commands that send one task to the daemon of a host."""

import argparse
from inspect import cleandoc
from typing import Final

from fastlib.cli.arguments.broker import add_broker_options
from fastlib.cli.arguments.task_names import summary_of
from fastlib.cli.arguments.task_options import TaskOptions
from fastlib.cli.arguments.values import StoreOnce, host_name
from fastlib.cli.errors import EXIT_STATUS_HELP
from fastlib.cli.sending import add_order_options, add_result_options, send_containers
from fastlib.codec.errors import MessageError
from fastlib.codec.own_doc import own_doc
from fastlib.message import TaskContainer
from fastlib.message.task import TaskDeclaration

EXAMPLES: Final = {
    "start vm": (
        "vm1 vm2 --host node01",
        "--xml vm1.xml --transient --host node01",
        "vm1 --vcpus 4 --memory 4194304 --host node01",
    ),
    "stop vm": ("vm1 vm2 --host node01", "--regex 'test-.*' --force --host node01"),
    "suspend vm": ("vm1 vm2 --host node01",),
    "resume vm": ("vm1 vm2 --host node01",),
    "repin vm": ("vm1 --vcpu-map '[[0, 1], [2, 3]]' --host node01",),
    "migrate vm": (
        "vm1 --from node01 --to node02",
        "vm1 --from node01 --to node02 --migration-type live --max-downtime 300",
        "vm1 --from node01 --to node02 --migration-type live --migration-timeout 120 "
        "--on-timeout pause",
        "vm1 --from node01 --to node02 --swap-with vm2",
    ),
    "evacuate node": (
        "--from node01 --to node02 node03",
        "--from node01 --to node02 --mode scatter --migration-type live --timeout 3600",
    ),
    "quit": ("--host node01",),
    "cancel task": ("5f3a9c1e07d24b16-1 --host node01",),
}
"""Arguments of examples by the title of the task. Tests run them.

The help of another task shows its usage as its example.
"""


def add_arguments(parser: argparse.ArgumentParser, declared: TaskDeclaration) -> None:
    """Add the options of a task, derived from its declaration."""
    doc = cleandoc(own_doc(declared.type) or f"{summary_of(declared)}.")
    parser.description = (
        f"{doc}\n\nSends '{declared.task}' to the daemon of a host and waits for its result."
    )
    host = parser.add_argument_group("the host")
    task = TaskOptions(declared, parser)
    host_option = host.add_argument(
        *(["--from", "--host"] if task.moves else ["--host"]),
        action=StoreOnce,
        dest="host",
        metavar="HOST",
        type=host_name,
        required=True,
        help="the host whose daemon executes the task",
    )
    result = parser.add_argument_group("the result")
    add_result_options(result)
    if task.has_field("id"):
        parser.set_defaults(container_id=None)
    else:
        result.add_argument(
            "--id",
            action=StoreOnce,
            dest="container_id",
            metavar="ID",
            help="the id of the task, which the result repeats; fastlib's daemon executes it "
            "only once (default: a unique one)",
        )
    add_order_options(parser.add_argument_group("the order"))
    add_broker_options(parser)
    task.add()
    needed = f"{host_option.option_strings[0]} HOST {' '.join(task.required)}".rstrip()
    parser.usage = f"%(prog)s {needed} [OPTION ...]"
    examples = EXAMPLES.get(declared.task) or [needed.replace("HOST", "node01", 1)]
    lines = "".join(f"  {parser.prog} {example}\n" for example in examples)
    parser.epilog = f"examples:\n{lines}\n{EXIT_STATUS_HELP}"
    parser.set_defaults(task=task)


def run(options: argparse.Namespace) -> int:
    tasks = options.task.tasks(options, options.parser)
    try:
        container = TaskContainer(tasks=tasks, id=options.container_id or None)
    except MessageError as error:
        options.parser.error("; ".join(map(str, error.problems)))
    return send_containers(options, [container])
