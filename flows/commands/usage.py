"""Describe wrong usage of the command line in one line: the flag, what was expected, what was found."""

import re
from typing import Any

import pydantic
from cyclopts import CycloptsError, MissingArgumentError, UnusedCliTokensError, ValidationError

# pydantic's kinds of errors: what was expected, and the name of the limit in the error's context.
_LIMITS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_EXPECTED = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "bool_parsing": "true or false",
    "finite_number": "a finite number",
    "too_short": "at least one value",
}
_SIGNS = {">=": "at least", ">": "more than", "<=": "at most", "<": "less than"}


def describe_usage_error(error: CycloptsError) -> str:
    """Return what is wrong with a command, in one line.

    Args:
        error: What the reader of the command line raised.
    """
    cause = error.__cause__
    if isinstance(cause, pydantic.ValidationError):
        return describe_settings_error(cause)
    command = " ".join(["cxr", *(error.command_chain or ())])
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        return f"expected {error.argument.name} with a value, found none: see `{command} --help`"
    if isinstance(error, UnusedCliTokensError):
        unused = " ".join(error.unused_tokens or ())
        return (
            f"expected no more arguments, found {unused}: "
            f"a name with blanks needs quotes; see `{command} --help`"
        )
    if isinstance(error, ValidationError) and error.argument is not None:
        return f"{error.argument.name}: {_describe_value_error(error)}"
    return " ".join(str(error).split())


def _describe_value_error(error: ValidationError) -> str:
    """Return what is wrong with the value of a flag that has limits."""
    message = error.exception_message
    limit = re.fullmatch(r"Must be ([<>]=?) (.+)\.", message)
    if limit is None or error.argument is None:
        return message
    sign, bound = limit.groups()
    value = " ".join(token.value for token in error.argument.tokens)
    return f"expected {_SIGNS[sign]} {bound}, found {value}"


def describe_settings_error(error: pydantic.ValidationError) -> str:
    """Return which settings are wrong, and why, in one line without pydantic's links.

    Args:
        error: What one of the models in `cxr.core.settings` raised.
    """
    problems = error.errors(include_url=False)
    # A list with wrong items is also called too short: the items tell more.
    lists_with_wrong_items = {problem["loc"][0] for problem in problems if len(problem["loc"]) > 1}
    sentences = []
    for problem in problems:
        place = problem["loc"]
        if len(place) == 1 and place[0] in lists_with_wrong_items:
            continue
        # What is wrong with several settings together has no place of its own.
        prefix = f"{_flag(place)}: " if place else ""
        sentences.append(prefix + _describe_setting(problem))
    return "; ".join(sentences)


def _flag(place: tuple[int | str, ...]) -> str:
    """Return the flag of a setting."""
    names = [name.replace("_", "-") for name in place if isinstance(name, str)]
    return f"--{'.'.join(names)}"


def _describe_setting(problem: Any) -> str:
    """Return what was expected of a setting and what was found."""
    kind = problem["type"]
    context = problem.get("ctx", {})
    if kind == "value_error":  # the model's own sentence, which names what was found
        return str(context.get("error", problem["msg"]))
    if kind in _LIMITS:
        comparison, name = _LIMITS[kind]
        expected = f"{comparison} {context[name]:g}"
    elif kind == "literal_error":
        expected = context["expected"].replace("'", "")
    else:
        expected = _EXPECTED.get(kind, "")
    if not expected:
        return str(problem["msg"])
    return f"expected {expected}, found {problem['input']}"
