"""Programs of npm packages: readers of our files in another language.

Each folder below `npm/` has a `package.json`, most often a lock file, and programs. It is installed
once into pytest's cache, which parallel workers and later runs share.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

NPM = Path(__file__).parent / "npm"

needs_npm = pytest.mark.skipif(
    shutil.which("npm") is None or shutil.which("node") is None,
    reason="npm is missing, so no program in another language has read our files; "
    "install node 20 or newer with npm",
)


def installed(config: pytest.Config, name: str) -> Path:
    """Return the folder of a program and of the packages that it needs."""
    source = NPM / name
    described = sorted(source.glob("package*.json"))
    version = hashlib.sha256(b"".join(path.read_bytes() for path in described)).hexdigest()[:12]
    folder = config.cache.mkdir(f"npm-{name}-{version}")
    done = folder / "installed"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel workers share the folder
        if not done.exists():
            for path in described:
                shutil.copy(path, folder)
            locked = (folder / "package-lock.json").exists()
            options = ["--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"]
            subprocess.run(
                ["npm", "ci" if locked else "install", *options],
                cwd=folder,
                env={**os.environ, "PUPPETEER_SKIP_DOWNLOAD": "1"},
                check=True,
                timeout=900,
            )
            done.touch()
        for program in source.glob("*.mjs"):
            # Another worker may read it at this moment, so it must be whole at each moment.
            shutil.copy(program, folder / "new")
            (folder / "new").rename(folder / program.name)
    return folder


def node(folder: Path, program: str, *arguments: object, stdin: str | None = None) -> str:
    """Run a program of an installed folder, and return its output."""
    done = subprocess.run(
        ["node", program, *map(str, arguments)],
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
