"""The errors of the demo."""

from fastlib.codec.errors import FastlibError


class SettingsError(FastlibError, ValueError):
    """The demo cannot run with these settings."""


class ScenarioError(FastlibError):
    """A step failed; the text has the expected and the actual result."""
