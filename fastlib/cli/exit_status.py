"""What the commands that talk to daemons end with; 0 is fine."""

from typing import Final

FAILED: Final = 1
"""A task ended with an error, or a message has one."""
UNUSABLE: Final = 2
"""Wrong usage, a file that cannot be read, or no broker."""
TOO_LATE: Final = 3
"""What was waited for did not come in time."""

WORDS: Final = """\
The exit status is 0 if every result is a success, 1 if one is an error or a message is not sent
because it has one, 2 for wrong usage, a file that cannot be read or no broker, 3 if a result, or
the broker's confirmation, did not come in time. After Ctrl-C the task goes on.
"""
