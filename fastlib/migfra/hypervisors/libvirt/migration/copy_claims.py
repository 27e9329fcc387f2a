"""The room at destinations that the copies of this daemon may still take."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from fastlib.migfra.plugin_api.locks import NamedLocks


class CopyClaims:
    """The images that this daemon's migrations copy, or are about to copy."""

    def __init__(self) -> None:
        self.locks: Final = NamedLocks()
        """Held by the name of a destination while its room is compared and claimed."""
        self._images: dict[str, dict[str, int]] = {}

    def at(self, host: str) -> Mapping[str, int]:
        """Return the bytes that each image at a destination may take, by its path."""
        return self._images.get(host, {})

    def add(self, host: str, images: Mapping[str, int]) -> None:
        """Claim the room for images."""
        self._images.setdefault(host, {}).update(images)

    @contextmanager
    def released(self, host: str, images: Mapping[str, int]) -> Iterator[None]:
        """Release the room at the end of a block."""
        try:
            yield
        finally:
            for path in images:
                del self._images[host][path]
            if not self._images[host]:
                del self._images[host]
