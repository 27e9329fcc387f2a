"""Diagrams, drawn by Graphviz from the files docs/pictures/*.dot."""

import re
import shutil
import subprocess
import sys
from pathlib import Path


def draw(path: Path) -> str:
    """Return a diagram as SVG."""
    dot = shutil.which("dot")
    if dot is None:
        sys.exit("dev: Graphviz is not installed. Run: apt-get install graphviz")
    done = subprocess.run([dot, "-Tsvg", str(path)], capture_output=True, text=True, check=True)
    svg = re.sub(r"<!DOCTYPE.*?>\n", "", done.stdout, flags=re.DOTALL)
    return re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)  # the version of Graphviz, names
