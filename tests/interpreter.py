"""Makes Triton's interpreter prepare its language once per launch.

Otherwise it patches all of `triton.language` again for every function that a kernel calls, which takes half of the time
of an interpreted kernel.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import pytest


def prepare_language_once_per_launch(patch: pytest.MonkeyPatch) -> None:
    from triton.runtime import interpreter

    prepare, languages = interpreter._patch_lang, (interpreter.tl, interpreter.tl.core)
    of_globals: dict[int, frozenset[int]] = {}
    ready: set[int] = set()

    def prepare_once(function: FunctionType) -> Any:
        names = function.__globals__
        if id(names) not in of_globals:
            of_globals[id(names)] = frozenset(
                i for i, language in enumerate(languages) if any(value is language for value in names.values())
            )
        if ready >= of_globals[id(names)]:
            return None  # a kernel's function: only a launch uses the scope
        scope = prepare(function)
        if not ready:
            restore = scope.restore

            def end_of_launch() -> None:
                ready.clear()
                restore()

            scope.restore = end_of_launch
        ready.update(of_globals[id(names)])
        return scope

    patch.setattr(interpreter, "_patch_lang", prepare_once)
