"""Optional packages: which extra of fastlib installs each, and the error when one is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .codec.errors import FastlibError

_EXTRAS: Final = {
    "amqtt": ("amqtt", "broker"),
    "hypothesis": ("hypothesis", "testing"),
    "jsonschema_rs": ("jsonschema-rs", "compat"),
    "libvirt": ("libvirt-python", "libvirt"),
    "paho": ("paho-mqtt", "mqtt"),
    "prometheus_client": ("prometheus-client", "metrics"),
    "re2": ("google-re2", "migfra"),
    "rich": ("rich", "terminal"),
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
        self.install: Final = f"pip install 'fastlib[{self.extra}]'"
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
