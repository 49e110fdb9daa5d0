"""How text, numbers, p values and durations are written for people."""

import math


def format_metric(value: float | None, digits: int = 3) -> str:
    """Return a figure for a table, or "not estimable".

    >>> format_metric(0.98765)
    '0.988'
    """
    return "not estimable" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def format_percent(value: float | None) -> str:
    """Return a proportion in percent with one decimal, or "not estimable".

    >>> format_percent(0.98765).split()
    ['98.8', '%']
    """
    return "not estimable" if value is None or math.isnan(value) else f"{100 * value:.1f}\u00a0%"


def format_p_value(p: float | None) -> str:
    """Return a p value for a table.

    >>> format_p_value(0.00012)
    '< 0.001'
    """
    return "not estimable" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def format_duration(seconds: float) -> str:
    """Return a time in words, to the second.

    >>> format_duration(3725)
    '1 h 2 min'
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def printable(text: str) -> str:
    r"""Return `text` with undecodable bytes and control characters escaped, for pages and logs.

    >>> printable("a\nb")
    'a\\nb'
    """
    safe = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in safe)
