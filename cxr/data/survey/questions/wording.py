"""How flags are written in the sentences of the survey."""

import shlex
from collections.abc import Sequence

from cxr.core.formatting import NAMES_SHOWN, printable


def format_flag(
    name: str,
    values: Sequence[str],
) -> str:
    """Return a flag with its values, quoted for a shell.

    Of many values the first NAMES_SHOWN are written, and how many more there are.
    """
    quoted = [shlex.quote(printable(_typeable(value))) for value in values[:NAMES_SHOWN]]
    flag = " ".join([name, *quoted])
    hidden_count = len(values) - NAMES_SHOWN
    if hidden_count <= 0:
        return flag
    return f"{flag} (and {hidden_count:,} more; a pattern such as 'patient*' fits many)"


def _typeable(value: str) -> str:
    """Return a value in which `?` stands for bytes that are no text: as a pattern it fits them."""
    return "".join("?" if "\udc80" <= character <= "\udcff" else character for character in value)
