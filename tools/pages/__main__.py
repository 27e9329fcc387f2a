"""`python -m tools.pages`: fail if a derived part of a page or of a module is outdated."""

import sys

from tools import field_docs

from . import outdated
from .markdown import ROOT

names = [str(path.relative_to(ROOT)) for path, _ in (*outdated(), *field_docs.outdated())]
if names:
    sys.exit(f"{', '.join(names)}: outdated. Run: ./dev docs --write")
