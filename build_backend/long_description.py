"""The description of a package: README.md with links that work outside the repository.

A relative link becomes an address in the repository, where the package knows it. Otherwise its text
stays, with the name of the file, which the sdist has.
"""

import re
import tomllib
from pathlib import Path

_FENCED = re.compile(r"^(```|~~~).*?^\1[`~]*$\n?", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\](?:\([^()]*\))?)*)\]\(([^\s()]+)\)")
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


def long_description(repository: str | None) -> str:
    """Return README.md of the current directory for a package index."""
    version = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["project"]["version"]
    return without_relative_links(Path("README.md").read_text("utf-8"), repository, f"v{version}")


def without_relative_links(text: str, repository: str | None, revision: str) -> str:
    """Return a text in Markdown without relative links; blocks of code stay as they are.

    It knows links and images of the form `[text](target)`. A test fails if README.md has others.
    """

    def link(match: re.Match[str]) -> str:
        image, label, target = match.groups()
        label = _LINK.sub(link, label)  # an image as the text of a link
        if _ABSOLUTE.match(target):
            return f"{image}[{label}]({target})"
        if target.startswith("#"):
            return str(label)
        if repository is not None:
            kind = "raw" if image else "blob"
            return f"{image}[{label}]({repository}/{kind}/{revision}/{target.removeprefix('./')})"
        file = target.partition("#")[0]
        return label if image or label.strip("`") == file else f"{label} ({file})"

    parts, end = [], 0
    for block in _FENCED.finditer(text):
        parts += [_LINK.sub(link, text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, _LINK.sub(link, text[end:])])
