"""Wrong usage of the command line in one sentence: the flag, what was expected, what was found."""

import re
from typing import Any

import pydantic
from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError, ValidationError

_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_SIGNS = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than"}
_KINDS = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
    "finite_number": "a finite number",
    "too_short": "at least one value",
}


def sentence(error: CycloptsError) -> str:
    """Return what is wrong with the command, in one line.

    Args:
        error: What the command line's reader raised.
    """
    cause = error.__cause__
    if isinstance(cause, pydantic.ValidationError):
        return settings(cause)
    command = " ".join(["cxr", *(error.command_chain or ())])
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return f"expected {error.argument.name} with a value, found none: see `{command} --help`"
    if isinstance(error, UnusedCliTokensError):
        over = " ".join(error.unused_tokens or ())
        advice = f"a name with blanks wants quotes; see `{command} --help`"
        return f"expected no more arguments, found {over}: {advice}"
    if isinstance(error, ValidationError) and error.argument is not None:
        bound = re.fullmatch(r"Must be ([<>]=?) (.+)\.", error.exception_message)
        words = error.exception_message
        if bound:
            found = " ".join(token.value for token in error.argument.tokens)
            words = f"expected {_SIGNS[bound[1]]} {bound[2]}, found {found}"
        return f"{error.argument.name}: {words}"
    return " ".join(str(error).split())


def settings(error: pydantic.ValidationError) -> str:
    """Return which settings do not fit, and why, in one line without pydantic's links.

    Args:
        error: What one of the models in `cxr.core.settings.base` raised.
    """
    found = error.errors(include_url=False)
    # A list whose items are wrong is also called too short: the items tell more.
    deeper = {each["loc"][0] for each in found if len(each["loc"]) > 1}
    told = [each for each in found if len(each["loc"]) != 1 or each["loc"][0] not in deeper]
    return "; ".join(f"{_flag(each['loc'])}: {_words(each)}" for each in told)


def _flag(place: tuple[int | str, ...]) -> str:
    names = [name.replace("_", "-") for name in place if isinstance(name, str)]
    return f"--{'.'.join(names)}"


def _words(error: Any) -> str:
    kind = error["type"]
    limits = error.get("ctx", {})
    if kind == "value_error":  # the model's own words, which name what was found
        return str(limits.get("error", error["msg"]))
    expected = _KINDS.get(kind, "")
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        expected = f"{words} {limits[name]:g}"
    elif kind == "literal_error":
        expected = limits["expected"].replace("'", "")
    return f"expected {expected}, found {error['input']}" if expected else str(error["msg"])
