"""A pickled list of strings, read without unpickling: no class is looked up, nothing is called."""

from __future__ import annotations

import pickletools
from typing import Any

STRINGS = frozenset({"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"})
STORES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
FETCHES = frozenset({"GET", "BINGET", "LONG_BINGET"})
PASSED_OVER = frozenset({"PROTO", "FRAME"})
MARK = object()


def read_strings(content: bytes, *, name: str) -> list[str]:
    """The strings of a pickled list, in order. ValueError for anything but one list of strings: it names the
    first operation of the pickle that no such list needs."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for operation, argument, _ in pickletools.genops(content):
            if operation.name == "STOP":
                break
            if operation.name not in PASSED_OVER:
                _follow(operation.name, argument, stack, memo)
    except (ValueError, IndexError, KeyError) as error:
        raise ValueError(
            f"{name} is no pickled list of strings ({error}); nothing else is ever unpickled"
        ) from None
    if len(stack) != 1 or not isinstance(stack[0], list) or not all(isinstance(x, str) for x in stack[0]):
        raise ValueError(f"{name} is no pickled list of strings; nothing else is ever unpickled")
    return stack[0]


def _follow(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """One operation on the stack. ValueError for one that makes anything but strings and lists."""
    if name in STRINGS:
        stack.append(argument)
    elif name == "EMPTY_LIST":
        stack.append([])
    elif name == "MARK":
        stack.append(MARK)
    elif name == "LIST":
        stack.append(_above_mark(stack))
    elif name == "APPEND":
        value = stack.pop()
        stack[-1].append(_string(value))
    elif name == "APPENDS":
        values = _above_mark(stack)
        stack[-1].extend(_string(value) for value in values)
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in STORES:
        memo[argument] = stack[-1]
    elif name in FETCHES:
        stack.append(memo[argument])
    else:
        raise ValueError(f"it holds the operation {name}")


def _above_mark(stack: list[Any]) -> list[Any]:
    values: list[Any] = []
    while (value := stack.pop()) is not MARK:
        values.append(value)
    return values[::-1]


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"it holds {type(value).__name__}")
    return value
