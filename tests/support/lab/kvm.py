"""Find out whether KVM can run a guest on this machine."""

import os
from pathlib import Path


def has_hardware_kvm() -> bool:
    """Return whether /dev/kvm is usable and driven by the processor's own virtualization.

    A machine may have another driver behind /dev/kvm, such as that of a paravirtual nested KVM. It
    emulates the kernel of an ordinary guest, which is slower than QEMU's own emulation.
    """
    modules = Path("/sys/module")
    is_hardware = any((modules / name).is_dir() for name in ("kvm_intel", "kvm_amd"))
    return is_hardware and os.access("/dev/kvm", os.R_OK | os.W_OK)
