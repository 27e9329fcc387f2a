"""Hooks of mkdocs: the pages of the repository's root, and links to files outside of docs/.

`CONTRIBUTING.md`, `CHANGELOG.md` and `SECURITY.md` become pages of the site. The links between the
documents work in a checkout and on a code host. Here they are changed to those of the site. A link
to another file of the repository becomes its path as text.
"""

import posixpath
import re
from pathlib import Path
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = {
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
    "SECURITY.md": "project/security.md",
    "README.md": "index.md",
}
"""Files of the repository, and the page of the site that a link to each leads to."""
_SOURCES: Final = {page: name for name, page in PAGES.items() if page != "index.md"}
_BLOCK: Final = re.compile(r"^```.*?^```$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[((?:[^][]|\[[^][]*\])+)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root."""
    for page, name in _SOURCES.items():
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Change links that lead out of docs/ or come from a file outside of it."""
    place = page.file.src_uri
    return with_links_of_site(markdown, place, _SOURCES.get(place, f"docs/{place}"))


def with_links_of_site(markdown: str, page: str, source: str) -> str:
    """Return a text whose links, written for the file `source`, fit the page `page`."""
    kept: list[str] = []
    position = 0
    for block in _BLOCK.finditer(markdown):
        kept += _changed(markdown[position : block.start()], page, source), block[0]
        position = block.end()
    return "".join([*kept, _changed(markdown[position:], page, source)])


def _changed(text: str, page: str, source: str) -> str:
    def change(match: re.Match[str]) -> str:
        target, sharp, anchor = match[2].partition("#")
        if not target or re.match(r"\w+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        inside = PAGES.get(path) or (path[5:] if path.startswith("docs/") else None)
        if inside is None:
            return f"{match[1]} (`{path}`)" if path not in match[1] else match[1]
        return f"[{match[1]}]({posixpath.relpath(inside, posixpath.dirname(page))}{sharp}{anchor})"

    return _LINK.sub(change, text)
