"""Text that is safe to show: file names may hold line breaks, control characters and undecodable bytes."""


def printable(text: str) -> str:
    r"""Return `text` with undecodable bytes and control characters escaped, for pages and logs.

    >>> printable("a\nb")
    'a\\nb'
    """
    safe = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in safe)
