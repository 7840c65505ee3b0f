"""Kinds of values: whether a value is what an argument of a class or function is annotated as."""

import inspect
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

Parameter = inspect.Parameter
_NAMES: dict[Any, str] = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "text",
    type(None): "None",
}
_PART = "dict(type=...)"
_COLLECTIONS = ("builtins", "collections.abc")
_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def signature(call: Callable[..., Any]) -> inspect.Signature:
    """The signature of a class or function, its annotations as types; none of a name that only type checkers import."""
    found = inspect.signature(call)
    own = inspect.unwrap(getattr(call, "__init__", call) if isinstance(call, type) else call)
    names = getattr(own, "__globals__", {})

    def evaluated(each: Parameter) -> Parameter:
        if not isinstance(each.annotation, str):
            return each
        try:
            return each.replace(annotation=eval(each.annotation, dict(names)))
        except (NameError, TypeError, AttributeError, SyntaxError):
            return each.replace(annotation=Parameter.empty)

    return found.replace(parameters=[evaluated(each) for each in found.parameters.values()])


def named_parameters(call: Callable[..., Any]) -> dict[str, Parameter]:
    """The parameters of a class or function that a config can give."""
    return {name: each for name, each in signature(call).parameters.items() if each.kind in _NAMED}


def expected(parameter: Parameter, value: Any) -> str | None:
    """What a parameter takes, in words, where a value is of another kind; None where it fits.

    One without an annotation takes what is like its default: True or False, or no text in place of a number.
    """
    annotation, default = parameter.annotation, parameter.default
    if value is default or (isinstance(default, (str, int, float, tuple)) and value == default):
        return None
    if annotation is Parameter.empty:
        if isinstance(default, bool):
            annotation = bool | None
        elif isinstance(default, (int, float)):
            return f"a number such as {default!r}" if isinstance(value, (str, bool)) else None
    return None if fits(value, annotation) else in_words(annotation)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value of a config is of an annotated kind: what is built of a dict may be one, a list be a tuple."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if kind is None or kind is type(None):
        return value is None
    if kind in (Any, object, Parameter.empty):
        return True
    if kind is bool:
        return isinstance(value, bool)
    if kind is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and not math.isnan(value)
    if kind in (str, Path):
        return isinstance(value, (str, Path, type))
    if not isinstance(origin or kind, type):
        return True  # names and variables of types
    return _fits_class(value, origin or kind, arguments)


def _fits_class(value: Any, kind: type, arguments: tuple[Any, ...]) -> bool:
    """Whether a value is of a class, or a collection with what its annotation says of the content.

    Where one dict may stand several may, and where a list of them may, one.
    """
    if isinstance(value, Mapping):
        inner = arguments[1] if issubclass(kind, Mapping) and len(arguments) > 1 else Any
        return not issubclass(kind, str) and all(fits(each, inner) for each in value.values())
    several = isinstance(value, Iterable) and not isinstance(value, str)
    if issubclass(kind, Mapping):
        return several and all(isinstance(each, Mapping) for each in value)
    if kind is tuple and arguments and Ellipsis not in arguments:
        return isinstance(value, (list, tuple)) and len(value) == len(arguments) and all(map(fits, value, arguments))
    if issubclass(kind, Iterable) and kind.__module__ in _COLLECTIONS:
        return several and all(fits(each, arguments[0] if arguments else Any) for each in value)
    if kind.__module__ == "collections.abc":
        return callable(value)
    is_named = isinstance(value, str) and kind in (torch.device, torch.dtype)  # a device, or a type of numbers
    return is_named or isinstance(value, kind)


def in_words(kind: Any) -> str:
    """What an annotation means to a user."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        words = dict.fromkeys(map(in_words, sorted(arguments, key=lambda each: each is type(None))))
        if _PART in words:
            words.pop("dict(...)", None)
        return " or ".join(words)
    if origin is typing.Literal:
        return " or ".join(map(repr, arguments))
    name = origin or kind
    if kind in _NAMES:
        return _NAMES[kind]
    if not isinstance(name, type):
        return _PART
    if issubclass(name, Mapping):
        return "dict(...)"
    if name is tuple and arguments and Ellipsis not in arguments:
        return f"({', '.join(map(in_words, arguments))})"
    if issubclass(name, Iterable) and name.__module__ in _COLLECTIONS:
        return f"a list, each of it {in_words(arguments[0])}" if arguments else "a list"
    return "a function" if name.__module__ == "collections.abc" else _PART
