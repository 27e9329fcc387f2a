"""A peer in ten lines, by PyYAML, which guesses types and knows no messages."""

import json
import sys

import yaml

for line in sys.stdin:
    try:
        tree = next(yaml.safe_load_all(json.loads(line)["yaml"]))
        print(json.dumps({"ok": True, "emit": yaml.safe_dump(tree)}), flush=True)
    except (yaml.YAMLError, ValueError, StopIteration, RecursionError) as error:
        print(json.dumps({"ok": False, "error": str(error)}), flush=True)
