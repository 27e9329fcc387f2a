"""Show text from the network without its control characters."""


def printable(text: str) -> str:
    """Return the text on one line, with every non-printable character as a Python escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
