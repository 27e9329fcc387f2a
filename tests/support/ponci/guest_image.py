"""A guest that runs the checks: Debian's kernel, and an archive with this Python and the project.

The archive has two parts, which the kernel unpacks one after the other. Python with its packages is
large and seldom another, so it is kept in the laboratory's cache, named after its content.
"""

import compileall
import hashlib
import importlib.util
import py_compile
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import fastlib
from tests.support.lab.image import cache, entry, kernel_folder, make_folder

HERE = Path(__file__).parent
PACKAGES = ("msgspec", "yaml", "re2")
_UNUSED = ("test", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data",
           "distutils", "site-packages", "dist-packages", "config-*", "__pycache__")  # fmt: skip
_PROJECT = "/project"
_INIT = HERE / "guest_init.py"


def image(folder: Path, checks: Iterable[str]) -> tuple[Path, Path]:
    """The paths of kernel and archive; the archive is made in a folder. Raises LabError.

    The guest runs the checks of these names.
    """
    kernel = kernel_folder() / "vmlinuz"
    archive = folder / "initrd"
    with archive.open("wb") as file:
        file.write(_python().read_bytes())
        with tempfile.TemporaryDirectory() as temporary:
            tree = Path(temporary)
            _put_project(tree)
            (tree / "checks").write_text("\n".join(checks))
            _compile(tree)
            file.writelines(_archive(tree))
    return kernel, archive


def _python() -> Path:
    """The part of the archive that has Python and its libraries."""
    with tempfile.TemporaryDirectory() as temporary:
        tree = Path(temporary)
        _put_python(tree)
        digest = hashlib.sha256(Path(__file__).read_bytes())
        for path in sorted(tree.rglob("*")):
            digest.update(f"{path.relative_to(tree)}\0".encode())
            if path.is_file():
                digest.update(path.read_bytes())
        folder = cache() / f"python-{digest.hexdigest()[:12]}"

        def make(new: Path) -> None:
            _compile(tree)
            (new / "archive").write_bytes(b"".join(_archive(tree)))

        if not (folder / "archive").exists():
            make_folder(folder, make)
    return folder / "archive"


def _interpreter() -> Path:
    """Return the program of this Python, not that of its virtual environment."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _put_python(tree: Path) -> None:
    program = _interpreter()
    _copy(program, tree)
    for folder in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        path = Path(folder)
        if not path.is_relative_to(sys.base_prefix):
            path = Path(sys.base_prefix, path.relative_to(sys.prefix))
        shutil.copytree(
            path, _in(tree, path), ignore=shutil.ignore_patterns(*_UNUSED), dirs_exist_ok=True
        )
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        assert found is not None
        assert found.origin is not None
        source = Path(found.origin).parent
        target = _in(tree, Path(_PROJECT, package))
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    for library in _libraries([program, *tree.rglob("*.so"), *tree.rglob("*.so.*")]):
        _copy(library, tree)


def _put_project(tree: Path) -> None:
    target = _in(tree, Path(_PROJECT))
    unused = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(fastlib.__file__).parent, target / "fastlib", ignore=unused)
    helpers = HERE.parents[1]
    shutil.copytree(
        helpers, target / "tests", ignore=shutil.ignore_patterns("__pycache__", "test_*")
    )
    init = tree / "init"
    init.write_text(f"#!{_interpreter()} -I\n{_INIT.read_text()}")
    init.chmod(0o755)


def _libraries(programs: Iterable[Path]) -> set[Path]:
    """Return the libraries of programs and extensions, and the loader."""
    found = set()
    for program in programs:
        libraries = subprocess.run(
            ["ldd", program], capture_output=True, text=True, check=False
        ).stdout
        for line in libraries.splitlines():
            words = line.partition("=>")[2].split() or line.split()
            if words and words[0].startswith("/"):
                found.add(Path(words[0]))
    return found


def _compile(tree: Path) -> None:
    """Compile the modules once, because the slow guest would compile them in each run."""
    compileall.compile_dir(
        tree,
        maxlevels=20,
        quiet=2,
        stripdir=str(tree),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _archive(tree: Path) -> Iterator[bytes]:
    for number, path in enumerate(sorted(tree.rglob("*")), start=1):
        name, mode = str(path.relative_to(tree)), path.stat().st_mode
        if stat.S_ISDIR(mode):
            yield entry(number, name, mode)
        else:
            yield entry(number, name, mode, path.read_bytes())
    yield entry(0, "TRAILER!!!", 0)


def _copy(path: Path, tree: Path) -> None:
    """Put a file at its path on this machine, and follow links to it."""
    target = _in(tree, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, target)


def _in(tree: Path, path: Path) -> Path:
    return tree / path.relative_to("/")
