"""The errors of the demo."""

from fastlib.codec.errors import FastlibError


class SettingsError(FastlibError, ValueError):
    """The story cannot be played like that."""


class StoryError(FastlibError):
    """The story did not go as it is told; the text says what was expected and what came."""
