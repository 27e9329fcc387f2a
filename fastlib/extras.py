"""Optional packages: which extra of fastlib installs each, and the error when one is missing.

The error has a command that works for this installation. No package index needs to have fastlib.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .codec.errors import FastlibError

DISTRIBUTION: Final = "fastlib-migfra"
"""The name for pip. An index may have somebody else's package with the name `fastlib`."""

_EXTRAS: Final = {
    "amqtt": ("amqtt", "broker"),
    "cryptography": ("cryptography", "libvirt"),
    "hypothesis": ("hypothesis", "testing"),
    "jsonschema_rs": ("jsonschema-rs", "compat"),
    "libvirt": ("libvirt-python", "libvirt"),
    "paho": ("paho-mqtt", "mqtt"),
    "prometheus_client": ("prometheus-client", "metrics"),
    "re2": ("google-re2", "migfra"),
    "rich": ("rich", "terminal"),
    "shtab": ("shtab", "completion"),
    "starlette": ("starlette", "web"),
    "uvicorn": ("uvicorn", "web"),
}
"""For each top-level module: the package that has it, and the extra that installs the package."""

_OTHER_NAMES: Final = {"libvirtmod": "libvirt"}
"""For a package's compiled part the module that imports it."""


class MissingExtraError(FastlibError, ImportError):
    """An optional package is not installed; the text has the command that installs it."""

    def __init__(
        self,
        feature: str,
        module: str,
        *,
        extra: str | None = None,
        reason: ImportError | None = None,
    ) -> None:
        """`feature` needs the top-level `module`; `reason` says why it cannot be imported.

        `extra` is another extra than the usual one that installs the package, too.
        """
        package, usual = _EXTRAS[module]
        self.package: Final = package
        self.extra: Final = extra or usual
        self.install: Final = install_command(self.extra)
        broken = reason is not None and not isinstance(reason, ModuleNotFoundError)
        why = f"cannot be imported ({reason})" if broken else "is not installed"
        super().__init__(f"{feature} needs {package}, which {why}: {self.install}", name=module)


@contextmanager
def needs_extra(feature: str, module: str, *, extra: str | None = None) -> Iterator[None]:
    """Raise MissingExtraError if an import in the context fails because `module` is missing.

    ::

        with needs_extra("MQTT", "paho"):
            from paho.mqtt.client import Client

    Other errors of imports pass.
    """
    try:
        yield
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if _OTHER_NAMES.get(name, name) != module:
            raise
        raise MissingExtraError(feature, module, extra=extra, reason=error) from error


# --- the command that installs an extra ---------------------------------------------------------


def install_command(extra: str) -> str:
    """Return a shell command that adds an extra to the fastlib that runs.

    It installs into the environment of this Python, also where that has no pip. A checkout that
    was installed is named by its folder. Otherwise the name is enough: pip and uv keep the
    installed version and add the packages of the extra.
    """
    import shlex

    editable, folder = source_folder()
    requirement = shlex.quote(f"{folder or DISTRIBUTION}[{extra}]")
    return f"{_pip_install()} {'--editable ' if editable else ''}{requirement}"


def source_folder() -> tuple[bool, str | None]:
    """Return whether the installation is editable, and the folder that it was made from.

    The folder is None if fastlib was not installed from a folder, or if the folder is gone.
    """
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from pathlib import Path
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    try:
        text = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:  # it runs from a checkout on PYTHONPATH
        checkout = Path(__file__).resolve().parents[1]
        return (True, str(checkout)) if (checkout / "pyproject.toml").is_file() else (False, None)
    origin = json.loads(text) if text else {}
    if "dir_info" not in origin:
        return False, None
    folder = url2pathname(urlsplit(origin["url"]).path)
    if not Path(folder, "pyproject.toml").is_file():
        return False, None
    return bool(origin["dir_info"].get("editable")), folder


def _pip_install() -> str:
    """Return the words that make pip or uv install into the environment of this Python."""
    import shlex
    import shutil
    import sys
    from importlib.machinery import PathFinder
    from pathlib import Path

    own = Path(sys.prefix, "bin", "pip")
    found = shutil.which("pip")
    if found and own.exists() and own.samefile(found):
        return "pip install"
    python = shlex.quote(sys.executable)
    # importlib.util.find_spec("pip") prints a warning after setuptools was imported.
    if PathFinder.find_spec("pip"):
        return f"{python} -m pip install"
    if shutil.which("uv"):
        return f"uv pip install --python {python}"
    return f"pip --python {python} install"
