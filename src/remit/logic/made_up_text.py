"""A text that a regular expression matches, for drills. Pure.

Rules: it is read by Python's own parser, and a short way through it is taken: the first alternative, the first character of a class, as few
repetitions as there must be, at least one where that is allowed. Anchors and what looks ahead or behind are passed over: whoever uses the
text checks it against the expression as it is enforced, which is of another kind (ECMA-262, in linear time).
"""

from __future__ import annotations

import re
import warnings
from importlib import import_module
from typing import Any

_PARSER: Any = import_module("re._parser")  # what ``re`` itself compiles from; where it changes, nothing is made up
_LENGTH_MAX = 1_000
_PATTERN_MAX = 2_000
_CLASSES = {"CATEGORY_DIGIT": "1", "CATEGORY_WORD": "a", "CATEGORY_SPACE": " ", "CATEGORY_NOT_SPACE": "a", "CATEGORY_NOT_DIGIT": "a"}
_OTHERS = "a1-_./ "


def matching(pattern: str) -> str:
    """A text that it may match; "" where none is found."""
    if len(pattern) > _PATTERN_MAX:
        return ""
    try:
        with warnings.catch_warnings(action="ignore"):
            return _text(_PARSER.parse(pattern))[:_LENGTH_MAX]
    except (re.error, AttributeError, LookupError, TypeError, ValueError, RecursionError, OverflowError):
        return ""


def _text(parsed: Any) -> str:
    made = ""
    for operation, argument in parsed:
        made += _one(str(operation), argument)
        if len(made) > _LENGTH_MAX:
            break
    return made


def _one(operation: str, argument: Any) -> str:
    if operation == "LITERAL":
        return chr(argument)
    if operation == "ANY":
        return "a"
    if operation == "NOT_LITERAL":
        return next(sign for sign in _OTHERS if ord(sign) != argument)
    if operation == "IN":
        return _class(argument)
    if operation == "SUBPATTERN":
        return _text(argument[-1])
    if operation == "BRANCH":
        return _text(argument[1][0])
    if operation in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
        least, most, inner = argument
        once = _text(inner)[:_LENGTH_MAX]
        times = max(int(least), min(1, int(most)))
        return once * min(times, _LENGTH_MAX // max(len(once), 1) + 1)
    return ""


def _class(members: Any) -> str:
    """A character of a class: the first that it names, or one of some others where it names what is not in it."""
    named = [(str(word), argument) for word, argument in members]
    if named[0][0] == "NEGATE":
        return next(sign for sign in _OTHERS if not any(_holds(word, argument, sign) for word, argument in named[1:]))
    word, argument = named[0]
    if word == "CATEGORY":
        return _CLASSES[str(argument)]
    return chr(argument[0] if word == "RANGE" else argument)


def _holds(word: str, argument: Any, sign: str) -> bool:
    if word == "RANGE":
        return bool(argument[0] <= ord(sign) <= argument[1])
    return bool(argument == ord(sign)) if word == "LITERAL" else _CLASSES.get(str(argument), sign) == sign
