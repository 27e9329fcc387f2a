"""Block devices of this machine, which all hosts of a laboratory have at the same path."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def missing_for_loop_devices() -> str | None:
    """The reason why this machine has no loop devices, if it has none."""
    if not Path("/dev/loop-control").exists():
        return "there is no /dev/loop-control; load the module loop, or run outside of a container"
    return None


@contextmanager
def loop_device(image: Path) -> Iterator[Path]:
    """A device with the content of an image. It ends with this process at the latest."""
    command = ["losetup", "--find", "--show", str(image)]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    device = Path(found.stdout.strip())
    with device.open("rb"):
        # The kernel detaches a device that is open only when its last user closes it.
        subprocess.run(["losetup", "--detach", device], check=True)
        yield device
