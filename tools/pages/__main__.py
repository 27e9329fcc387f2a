"""`python -m tools.pages`: fail if a derived part of a page is outdated."""

import sys

from . import outdated
from .markdown import ROOT

names = [str(path.relative_to(ROOT)) for path, _ in outdated()]
if names:
    sys.exit(f"{', '.join(names)}: outdated. Run: ./dev docs --write")
