"""What the laboratory says when it cannot."""


class LabError(Exception):
    """The laboratory could not do it; the text says why, and what helps."""
