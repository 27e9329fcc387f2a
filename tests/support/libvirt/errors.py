"""Errors of libvirt that a test makes itself."""

from typing import Any

from fastlib.migfra.hypervisors.libvirt.connection.api import api


def error_of(code: int, text: str, number: int = -1) -> Any:
    """Return a `libvirt.libvirtError` with a code of `virErrorNumber`.

    `number` is that of an error of the system. Its constructor prefers the last error of libvirt in
    this thread, which another test may have caused. So its text is set here.
    """
    libvirt = api()
    error: Any = libvirt.libvirtError(text)
    error.args = (text,)
    error.err = (code, 0, text, libvirt.VIR_ERR_ERROR, text, None, None, number, -1)
    return error
