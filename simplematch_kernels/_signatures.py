"""Shows the options of a function in its signature."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast, get_type_hints

Function = TypeVar("Function", bound=Callable[..., Any])


def show_options(keywords: type[Any], defaults: Mapping[str, Any], array: Any = None) -> Callable[[Function], Function]:
    """Show a function's `**options` in its signature, with their types and defaults, and refuse others by name.

    Args:
        keywords: the TypedDict of the options.
        defaults: of these options and of others; their order is that of the signature.
        array: what `Array` stands for in the TypedDict.
    """
    hints = get_type_hints(keywords)
    shown = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=defaults[name], annotation=_with(array, hints[name])
        )
        for name in sorted(hints, key=list(defaults).index)
    ]

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        positional, keyword = ([p for p in own if (p.kind is p.KEYWORD_ONLY) == last] for last in (False, True))
        accepted = {p.name for p in (*own, *shown)}

        @functools.wraps(function)
        def checked(*arguments: Any, **options: Any) -> Any:
            for name in options:
                if name not in accepted:
                    raise unknown_argument(function.__name__, name, [p.name for p in shown])
            return function(*arguments, **options)

        whole = signature.replace(parameters=[*positional, *shown, *keyword])
        checked.__signature__ = whole  # type: ignore[attr-defined]
        return cast(Function, checked)

    return decorate


def _with(array: Any, hint: Any) -> Any:
    """A type in which `Array` stands for `array`."""
    return hint[array] if getattr(hint, "__parameters__", ()) else hint


def unknown_argument(function: str, name: str, options: list[str]) -> TypeError:
    """The error for an argument that a function doesn't have: the nearest of its options, or all of them."""
    import difflib  # takes longer to import than most calls take

    close = difflib.get_close_matches(name, options, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(options)}"
    return TypeError(f"{function}() got an unexpected keyword argument {name!r}; {hint}")
