"""How numbers, p-values, counts, durations and names are written for people."""

import math
from collections.abc import Sequence

NOT_ESTIMABLE = "not estimable"
NAMES_SHOWN = 6  # names in one sentence, values in one flag


def format_metric(value: float | None, digits: int = 3) -> str:
    """Return a metric with a fixed number of decimals.

    Args:
        value: The metric; None or NaN where it is not estimable.
        digits: How many decimals.

    >>> format_metric(0.98765)
    '0.988'
    """
    if value is None or math.isnan(value):
        return NOT_ESTIMABLE
    return f"{value:.{digits}f}"


def format_percent(value: float | None) -> str:
    """Return a proportion in percent with one decimal.

    Args:
        value: The proportion, 0 to 1; None or NaN where it is not estimable.

    >>> format_percent(0.98765).split()
    ['98.8', '%']
    """
    if value is None or math.isnan(value):
        return NOT_ESTIMABLE
    no_break_space = "\u00a0"
    return f"{100 * value:.1f}{no_break_space}%"


def format_p_value(p: float | None) -> str:
    """Return a p-value for a table whose column is headed p.

    Args:
        p: The p-value, 0 to 1; None where it is not estimable.

    >>> format_p_value(0.0123)
    '0.012'
    >>> format_p_value(0.00012)
    '< 0.001'
    """
    if p is None:
        return NOT_ESTIMABLE
    if p < 0.001:
        return "< 0.001"
    return f"{p:.3f}"


def describe_p_value(p: float | None) -> str:
    """Return a p-value for a sentence, with its symbol.

    Args:
        p: The p-value, 0 to 1; None where it is not estimable.

    >>> describe_p_value(0.0123)
    'p = 0.012'
    >>> describe_p_value(0.00012)
    'p < 0.001'
    >>> describe_p_value(None)
    'p not estimable'
    """
    text = format_p_value(p)
    return f"p = {text}" if text[0].isdigit() else f"p {text}"


def format_count(count: int, things: str) -> str:
    """Return a number of things, in the singular for one.

    Args:
        count: How many there are.
        things: What they are, in the plural.

    >>> format_count(1, "linked folders")
    '1 linked folder'
    >>> format_count(1200, "files of unknown kind")
    '1,200 files of unknown kind'
    """
    if count != 1:
        return f"{count:,} {things}"
    noun, of, kind = things.partition(" of ")
    return f"1 {noun.removesuffix('s')}{of}{kind}"


def format_names(
    names: Sequence[str],
    unit: str = "",
    most: int = NAMES_SHOWN,
) -> str:
    """Return names in one text: the first ones, and how many more there are.

    Args:
        names: What is listed.
        unit: What the names are of, said of those that are not shown ("folders").
        most: How many names are shown.

    >>> format_names("abcde", most=3)
    'a, b, c and 2 more'
    """
    shown = ", ".join(names[:most])
    hidden_count = len(names) - most
    if hidden_count <= 0:
        return shown
    return f"{shown} and {hidden_count:,} more {unit}".rstrip()


def format_duration(seconds: float) -> str:
    """Return a duration in its two largest units, to the second.

    >>> format_duration(3725)
    '1 h 2 min'
    """
    minutes, seconds_left = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    if minutes:
        return f"{minutes} min {seconds_left} s"
    return f"{seconds_left} s"


def printable(text: str) -> str:
    r"""Return a text with undecodable bytes and control characters escaped, for pages and logs.

    File names may hold both.

    >>> printable("a\nb")
    'a\\nb'
    """
    decodable = text.encode("utf-8", "backslashreplace").decode()
    return "".join(_escape(character) for character in decodable)


def _escape(character: str) -> str:
    """Return a character as it is if it can be printed, else its escape sequence."""
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
