"""Decide when an order expires. No I/O."""

from datetime import UTC, datetime, timedelta


def check_expires(given: object) -> None:
    """Raise TypeError, with the remedy, for an `expires` that is not a time."""
    if given is None or isinstance(given, datetime | timedelta):
        return
    example = ""
    if isinstance(given, int | float) and not isinstance(given, bool):
        example = f"; for {given} seconds from now, give timedelta(seconds={given})"
    raise TypeError(
        "'expires' must be a datetime with a zone, a timedelta from now on, or None for an order "
        f"that waits; got {given!r}{example}"
    )


def expires_after(seconds: float | timedelta, now: float) -> datetime:
    """Return the time some seconds after `now` (seconds since 1970), in full milliseconds.

    Raises ValueError if that is not in the years 1 to 9999.
    """
    delay = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
    try:
        time = datetime.fromtimestamp(now, UTC) + delay
    except OverflowError:
        raise ValueError(
            f"an order cannot expire {seconds} after now, as that is not in the years 1 to 9999; "
            "use expires=None for an order that waits without a limit"
        ) from None
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
