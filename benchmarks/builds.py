"""The builds of fastlib that the codec benchmark measures: pure, and with a compiled fast reader.

Usually this is the repository of a developer, where the package is pure. Where mypy and a C
compiler are there, it is compiled into `.cache`, which takes 20 seconds once. Then Python is
started once more with that package.
"""

import importlib.util
import os
import sys
from types import ModuleType

from fastlib.codec import compiled, is_compiled
from fastlib.extras import install_command
from tools.compiled_build import BuildError, compiled_package, environment


def start_compiled(arguments: list[str]) -> None:
    """Run the benchmarks once more with the compiled package, in place of this process.

    Return if that package is installed. If it cannot be compiled, say why and return.
    """
    if is_compiled():
        return
    missing = [name for name in ("mypyc", "setuptools") if importlib.util.find_spec(name) is None]
    try:
        if missing:
            raise BuildError(f"not installed: {', '.join(missing)}; {install_command('bench')}")
        folder = compiled_package()
    except BuildError as error:
        print(f"the fast reader is not compiled: {error}", file=sys.stderr)
        return
    os.environ.update(environment(folder))
    os.execv(sys.executable, [sys.executable, "-m", "benchmarks", *arguments])


def pure_fast_reader() -> ModuleType:
    """Return the fast reader in pure Python, which a compiled package has beside the compiled."""
    folder = os.path.dirname(compiled.__file__)
    names = [f"fastlib.codec.{name}" for name in ("fast_values", "fast_reader")]
    before = {name: sys.modules.pop(name, None) for name in names}
    try:
        for name in names:
            path = os.path.join(folder, f"{name.rpartition('.')[2]}.py")
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules[name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        return module
    finally:
        for name, old in before.items():
            del sys.modules[name]
            if old is not None:
                sys.modules[name] = old
