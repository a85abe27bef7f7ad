"""Models that call the functions of this package, as ONNX files of standard operators: no plugin, no kernels of ours.

Every operator is replaced by its definition, the reference in plain PyTorch. Needs the packages onnx and
onnxscript.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .operators import NAMESPACE
from .operators._operator import DEFINED

if TYPE_CHECKING:
    from torch.onnx import ONNXProgram

_NO_GRAPH = torch.fx.Graph()


def decompositions() -> dict[Any, Callable[..., Any]]:
    """What each of our operators is in operators of torch, for `ExportedProgram.run_decompositions`.

    .. code-block:: python

        program = torch.export.export(model, arguments, dynamic_shapes=shapes)
        program = program.run_decompositions(simplematch_kernels.onnx.decompositions())
        torch.onnx.export(program, (), "model.onnx", dynamo=True)

    `export` does this, and refuses by name what can't be exported.
    """
    table: dict[Any, Callable[..., Any]] = {each.overload: each.decompose for each in DEFINED}
    table[torch.ops.aten.remainder.Scalar] = _remainder
    return table


def _remainder(x: Tensor, other: Any) -> Any:
    """Of a symbolic size, for which PyTorch's exporter has no remainder."""
    if not isinstance(other, torch.SymInt):
        return NotImplemented
    size: Any = other
    return x - x.floor_divide(size) * size


def export(
    model: torch.nn.Module | torch.export.ExportedProgram,
    args: Sequence[Any] = (),
    path: str | PathLike[str] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    **options: Any,
) -> ONNXProgram:
    """Export a model that calls functions of this package to ONNX.

    Args:
        model: a module in `eval()` mode whose results are tensors, in tuples, lists, dicts or named tuples; or what
            `torch.export.export` made of it.
        args: example inputs. Sizes that `dynamic_shapes` doesn't name are fixed to theirs.
        path: file to write. None: the caller saves the returned program.
        kwargs: example keyword arguments.
        dynamic_shapes: as in `torch.export.export`: batch size, number of keypoints, and height and width of maps may
            change; the number of channels may with metric "cosine" and "dot".
        options: further options of `torch.onnx.export`, such as `input_names`, `output_names` and `opset_version`.

    Returns:
        The program, of operators of the standard ONNX domain alone.

    Raises:
        ImportError: onnx or onnxscript is missing.
        ValueError: the model computes gradients of our operators; or an option needs maps of some size, such as a
            window round a given `center`, and `dynamic_shapes` allow others. Errors of `torch.export` pass through.
    """
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"{__name__}.export needs {name}, which is not installed (pip install {name})")
    if isinstance(model, torch.export.ExportedProgram):
        program = model
    else:
        with torch.no_grad():  # no result is kept for a backward
            program = torch.export.export(model, tuple(args), dict(kwargs or {}), dynamic_shapes=dynamic_shapes)
    decomposed: Any = _decompose(program)
    with warnings.catch_warnings():
        # The greatest float64 as float32: a bound of nan_to_num, after which the reference clamps.
        warnings.filterwarnings("ignore", "overflow encountered in cast", RuntimeWarning)
        options = {"verbose": False, **options}
        found: ONNXProgram | None = torch.onnx.export(decomposed, (), path, dynamo=True, **options)
    assert found is not None
    return found


def _decompose(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    table, names, known = decompositions(), _names(program), _guards(program)
    for node in (node for graph in program.graph_module.modules() for node in getattr(graph, "graph", _NO_GRAPH).nodes):
        if getattr(node.target, "namespace", None) == NAMESPACE and node.target not in table:
            raise ValueError(
                f"model must not compute gradients to be exported to ONNX, got a call of {node.target}; "
                "export a module that returns matches or losses"
            )
    decomposed: torch.export.ExportedProgram = program.run_decompositions(table)
    if new := [_in_words(guard, names) for guard in _guards(decomposed) if guard not in known]:
        raise ValueError(
            f"dynamic_shapes must allow only sizes where {' and '.join(new)}, which the options of the model need, got "
            "more; give the torch.export.Dim a min or a max that says so, or leave the dimension fixed"
        )
    return decomposed


def _guards(program: torch.export.ExportedProgram) -> list[str]:
    """What a trace took for granted of symbolic sizes."""
    for value in _inputs(program).values():
        if (environment := getattr(getattr(value, "fake_mode", None), "shape_env", None)) is not None:
            return [str(guard.expr) for guard in environment.guards]
    return []


def _names(program: torch.export.ExportedProgram) -> dict[str, str]:
    """Of symbols, by the first input with that size, like "features.shape[2]"."""
    names: dict[str, str] = {}
    for name, value in _inputs(program).items():
        for dim, size in enumerate(value.shape):
            names.setdefault(str(size), f"{name}.shape[{dim}]")
    return names


def _inputs(program: torch.export.ExportedProgram) -> dict[str, Tensor]:
    placeholders = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    return {name: value for name, value in placeholders.items() if isinstance(value, Tensor)}


def _in_words(guard: str, names: Mapping[str, str]) -> str:
    return re.sub(r"\bs\d+\b", lambda symbol: names.get(symbol[0], symbol[0]), guard)
