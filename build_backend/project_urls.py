"""The addresses in a package's metadata.

The sources know no address of their own, because a clone may have any. A package names the
repository that it was built from. The variable `FASTLIB_REPOSITORY` says it, an sdist's metadata,
or a clone's remote `origin`, if that is an https address or `git@host:owner/name`. Otherwise the
package names no repository.
"""

import os
import re
import subprocess
from email.parser import HeaderParser
from pathlib import Path
from urllib.parse import urlsplit

PEERS = {
    "C++ fast-lib": "https://github.com/fast-project/fast-lib",
    "C++ migration-framework": "https://github.com/fast-project/migration-framework",
}
"""The programs that fastlib is compatible with."""

VARIABLE = "FASTLIB_REPOSITORY"


def project_urls() -> dict[str, str]:
    """Return label and address of each link, for the sources in the current directory."""
    repository = _repository()
    if repository is None:
        return dict(PEERS)
    return {
        "Repository": repository,
        "Documentation": f"{repository}/tree/HEAD/docs",
        "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
        "Issues": f"{repository}/issues",
        "Security": f"{repository}/security/policy",
        **PEERS,
    }


def _repository() -> str | None:
    """Return the address of the repository, or None if nothing says it."""
    if told := os.environ.get(VARIABLE):
        address = web_address(told)
        if address is None:
            raise SystemExit(
                f"fastlib: {VARIABLE} must be an address such as https://host/owner/name: {told!r}"
            )
        return address
    metadata = Path("PKG-INFO")
    if metadata.is_file():  # an sdist
        links = HeaderParser().parsestr(metadata.read_text("utf-8")).get_all("Project-URL", [])
        pairs = dict(re.split(r",\s*", link, maxsplit=1) for link in links)
        return pairs.get("Repository")
    if not Path(".git").exists():  # or git would look in the folders above
        return None
    command = ("git", "config", "--get", "remote.origin.url")
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return web_address(done.stdout.strip())


def web_address(url: str) -> str | None:
    """Return the https address of a remote without user, password and `.git`, or None."""
    if re.search(r"\s", url):
        return None
    if found := re.fullmatch(r"(?:ssh://)?git@([\w.-]+)[:/]([\w./-]+?)(?:\.git)?/?", url):
        return f"https://{found[1]}/{found[2]}"
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    path = parts.path.rstrip("/").removesuffix(".git")
    if parts.scheme != "https" or not parts.hostname or not re.fullmatch(r"(/[\w.~-]+)+", path):
        return None
    return f"https://{parts.hostname}{port}{path}"
