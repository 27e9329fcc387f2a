"""Log a problem when it begins, and not again while it lasts."""

from logging import Logger, LoggerAdapter


class KnownProblems:
    """The problems that are logged, by their subject."""

    def __init__(self, log: Logger | LoggerAdapter[Logger]) -> None:
        self._log = log
        self._known: dict[str, str] = {}

    def note(self, subject: str, problem: str | None) -> None:
        """Log the problem of a subject as a warning, unless it is known. None means that it ended.

        Another problem of the same subject is logged, too.
        """
        if problem is None:
            self._known.pop(subject, None)
        elif self._known.get(subject) != problem:
            self._known[subject] = problem
            self._log.warning("%s", problem)
