"""Measure the peak memory of loading ten thousand results, in multiples of their text."""

import argparse
import gc
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

from .codec import OWN, check_load
from .contenders import Contender, find_contenders
from .messages import MESSAGES

MESSAGE = "results-10000"
LIMIT = 12.0
"""What fastlib must stay below, in bytes a byte of text."""


def peak_of(load: Callable[[bytes], Any], text: bytes) -> int:
    """Return the peak of the bytes in use, with the result and without the text."""
    load(text)  # caches are filled once, not at each load
    gc.collect()
    tracemalloc.start()
    try:
        loaded = load(text)
        _, peak = tracemalloc.get_traced_memory()
        del loaded
        return peak
    finally:
        tracemalloc.stop()


def measure(contenders: list[Contender], text: bytes) -> dict[str, int]:
    """Return the peak of each contender."""
    return {contender.name: peak_of(contender.load["result"], text) for contender in contenders}


def main(arguments: list[str]) -> int:
    """`python -m benchmarks memory`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks memory", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)

    found, missing = find_contenders()
    message = MESSAGES[MESSAGE]()
    text = message.to_yaml().encode()
    for contender in found:
        check_load(contender, contender.load["result"], text, message)
    peaks = measure(found, text)
    ratio = peaks[OWN] / len(text)
    if options.json:
        tree = {
            "benchmark": "memory",
            "message": MESSAGE,
            "bytes": len(text),
            "peak-bytes": peaks,
            "missing": [m._asdict() for m in missing],
            "target": {"below": LIMIT, "value": ratio, "met": ratio < LIMIT},
        }
        print(json.dumps(tree, indent=2))
        return 0
    print(f"peak of loading {MESSAGE}, {len(text):,} bytes of text\n")
    for contender in found:
        peak = peaks[contender.name]
        note = "  (Python's part; the C++ tree is not seen)" if contender.native_memory else ""
        print(f"  {contender.name:<16}{peak:>12,} bytes {peak / len(text):>7.2f}x{note}")
    for absent in missing:
        print(f"missing: {absent.name} ({absent.reason}); {absent.install}")
    verdict = "met" if ratio < LIMIT else "NOT met"
    print(f"\ntarget, below {LIMIT:.0f}x: {ratio:.2f}x - {verdict}")
    return 0
