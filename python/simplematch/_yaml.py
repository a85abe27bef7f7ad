"""Strict YAML reading: duplicate keys, NaN and infinity are errors that name the file."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from ._files import DataError, reason_of

_LARGEST = 1 << 20  # bytes; a configuration has a few hundred


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read the fields of a YAML file.

    Raises:
        DataError: the file is missing, unreadable, larger than 1 MiB, not valid YAML, or not a mapping.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise ValueError("it is larger than 1 MiB")
        found = yaml.load(content, _StrictLoader)  # a SafeLoader
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing.") from error
    except RecursionError:
        raise DataError(f"{path} can't be read as YAML: it is nested too deeply.") from None
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise DataError(f"{path} can't be read as YAML: {error.problem}{line}.") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path} can't be read as YAML: {' '.join(reason_of(error).split())}.") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise DataError(f"{path} must hold fields and values, got {type(found).__name__}")
    return found


class _StrictLoader(yaml.SafeLoader):  # type: ignore[misc]  # yaml declares no types
    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise ValueError(f"the key {key.value[:60]!r} appears again in line {key.start_mark.line + 1}")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)

    def construct_yaml_float(self, node: Any) -> float:
        value = float(super().construct_yaml_float(node))
        if not math.isfinite(value):
            raise ValueError(f"line {node.start_mark.line + 1} must have a finite number, got {node.value[:60]}")
        return value


# YAML 1.1 reads 1e-3 as text; read it as a number, as YAML 1.2 does.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_yaml_float)
