"""The error of the laboratory."""


class LabError(Exception):
    """An operation of the laboratory failed. The text has the reason and the remedy."""
