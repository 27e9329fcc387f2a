"""Run one benchmark: `python -m benchmarks NAME …`. Each benchmark is a module."""

import importlib
import sys

BENCHMARKS = {
    "codec": "load and emit eight messages, beside the YAML libraries of Python",
    "memory": "peak memory of loading ten thousand results",
    "transport": "messages per second and round trips through mosquitto, beside bare paho-mqtt",
    "daemon": "tasks per second and latency of one migfra, beside a loop that only answers",
    "migration": "migrate, swap and evacuate between two libvirt hosts, beside virsh; as root",
}
"""The name of each benchmark, which is its module with a `main(arguments) -> exit status`."""


def main(arguments: list[str]) -> int:
    """Run the benchmark that the first argument names, and return its exit status."""
    if arguments and arguments[0] in BENCHMARKS:
        module = importlib.import_module(f"{__package__}.{arguments[0]}")
        status: int = module.main(arguments[1:])
        return status
    asked_for_help = arguments[:1] in ([], ["-h"], ["--help"])
    out = sys.stdout if asked_for_help else sys.stderr
    if not asked_for_help:
        print(f"there is no benchmark {arguments[0]!r}", file=out)
    print("usage: python -m benchmarks NAME [OPTION…]; NAME --help tells the options\n", file=out)
    for name, subject in BENCHMARKS.items():
        print(f"  {name:<10}{subject}", file=out)
    return 0 if asked_for_help else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
