"""The layout for the `kernels` library: build.toml is of its schema, and the layer loads under any name, also twice."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ..test_import import run

ROOT = Path(__file__).parents[2]

GENERAL = {  # of edition 5 of build.toml; False: may be absent. All else is refused
    "name": (str, True),
    "version": (int, True),
    "edition": (int, True),
    "license": (str, True),
    "backends": (list, True),
    **dict.fromkeys(("upstream", "source", "minver"), (str, False)),
    **dict.fromkeys(("cuda", "hub", "neuron", "tpu", "xpu"), (dict, False)),
    **dict.fromkeys(("kernel-depends", "python-depends"), (list, False)),
}
NOARCH = {"pyext": (list, False), "cuda_capabilities": (list, False), "rocm_archs": (list, False)}
BACKENDS = {"cann", "cpu", "cuda", "metal", "neuron", "rocm", "tpu", "xpu"}

LOAD = """
import importlib.util, sys
from pathlib import Path

def load(name, folder):
    # as kernels does it: a module of this name from the file, its own name known to nothing else
    spec = importlib.util.spec_from_file_location(name, Path(folder) / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module

import torch
import simplematch_kernels as smk
source, target = torch.randn(2, 1, 8, 9, 9).unbind()
source.requires_grad_()
keypoints = 8 * torch.rand(1, 3, 2)
expected = smk.sparse_window_match(source, target, keypoints, backend="reference")
"""

USE = """
def operators_of(layer):
    return [node.target for node in torch.export.export(Match(layer), (source.detach(), target, keypoints)).graph.nodes
            if isinstance(node.target, torch._ops.OpOverload) and "simplematch" in node.target.namespace]

class Match(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, *inputs):
        return self.layer.sparse_window_match(*inputs).keypoints

namespaces = {"simplematch"}
for layer in layers:
    matches = layer.sparse_window_match(source, target, keypoints)
    assert torch.equal(matches.keypoints, expected.keypoints)
    compiled = torch.compile(layer.sparse_window_match, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(source, target, keypoints).keypoints, expected.keypoints)
    (gradient,) = torch.autograd.grad(matches.keypoints.sum(), source)
    assert torch.equal(gradient, torch.autograd.grad(expected.keypoints.sum(), source, retain_graph=True)[0])
    assert layer.__version__ == smk.__version__ and set(layer.__all__) == set(smk.__all__)
    assert "simplematch_kernels" not in layer.sparse_window_match.__module__.split(".")
    namespace = next(op.namespace for op in operators_of(layer))
    assert namespace.startswith("simplematch_") and namespace not in namespaces
    namespaces.add(namespace)
"""


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub") / "layout"
    subprocess.run([sys.executable, str(ROOT / "tools" / "hub" / "layout.py"), str(folder)], check=True)
    return folder


def check_table(table: dict[str, Any], schema: dict[str, tuple[type, bool]]) -> None:
    assert table.keys() <= schema.keys()
    assert {key for key, (_, required) in schema.items() if required} <= table.keys()
    for key, value in table.items():
        assert type(value) is schema[key][0], key


def test_build_toml_is_of_the_schema(layout: Path) -> None:
    build = tomllib.loads((layout / "build.toml").read_text())
    assert build.keys() == {"general", "torch-noarch"}
    check_table(build["general"], GENERAL)
    check_table(build["torch-noarch"], NOARCH)
    assert build["general"]["edition"] == 5
    assert re.fullmatch(r"[a-z][-a-z0-9]*[a-z0-9]", build["general"]["name"])
    assert set(build["general"]["backends"]) <= BACKENDS


def test_every_variant_is_a_pure_package_with_metadata(layout: Path) -> None:
    general = tomllib.loads((ROOT / "tools" / "hub" / "build.toml").read_text())["general"]
    source = layout / "torch-ext" / "simplematch_kernels"
    files = {p.relative_to(source) for p in source.rglob("*") if p.is_file()}
    assert {p.suffix for p in files} == {".py", ".typed"}
    assert not (source / "_ops.py").exists()  # the builder writes one
    identities = set()
    for backend in general["backends"]:
        variant = layout / "build" / f"torch-{backend}"
        assert {p.relative_to(variant) for p in variant.rglob("*") if p.is_file()} == files | {Path("metadata.json")}
        metadata = json.loads((variant / "metadata.json").read_text())
        assert metadata["backend"]["type"] == backend and metadata["python-depends"] == []
        assert {k: metadata[k] for k in ("name", "version", "license")} == {
            k: general[k] for k in ("name", "version", "license")
        }
        assert metadata["id"].isidentifier()
        identities.add(metadata["id"])
    assert len(identities) == len(general["backends"])
    sources = "".join(p.read_text() for p in source.rglob("*.py"))
    assert not re.search(r"^\s*(from|import) simplematch_kernels", sources, re.MULTILINE)


def test_loads_beside_the_package_under_any_name_and_twice(layout: Path) -> None:
    folder = layout / "build" / "torch-cpu"
    result = run(LOAD + f"layers = [load('_first', {str(folder)!r}), load('second-name', {str(folder)!r})]\n" + USE)
    assert result.returncode == 0, result.stderr


def test_the_kernels_library_loads_it(layout: Path) -> None:
    """With its own reader of build.toml and its own loader."""
    pytest.importorskip("kernels", reason="pip install kernels")
    code = f"""
    from kernels import get_local_kernel
    from kernels._rust import Build
    assert [str(b) for b in Build.open({str(layout)!r}).general.backends] == ["cpu", "cuda"]
    layers = [get_local_kernel(Path({str(layout)!r}), backend="cpu")]
    """
    result = run(LOAD + textwrap.dedent(code) + USE)
    assert result.returncode == 0, result.stderr
