"""The project for the kernel builder, and its builds: what the builder asks for, and builds load beside each other."""

from __future__ import annotations

import ast
import base64
import hashlib
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
NAME = "simplematch_kernels"

GENERAL = {  # of edition 5 of build.toml; False: may be absent. All else is refused
    "name": (str, True),
    "version": (int, True),
    "edition": (int, True),
    "license": (str, True),
    "backends": (list, True),
    **dict.fromkeys(("upstream", "source"), (str, False)),
    **dict.fromkeys(("cuda", "hub", "neuron", "tpu", "xpu"), (dict, False)),
    **dict.fromkeys(("kernel-depends", "python-depends"), (list, False)),
}
HUB = {"repo-id": (str, True), "branch": (str, False)}
NOARCH = {"pyext": (list, False), "cuda_capabilities": (list, False), "rocm_archs": (list, False)}
BACKENDS = {"cann", "cpu", "cuda", "metal", "neuron", "rocm", "tpu", "xpu"}

SETUP = """
import torch, simplematch_kernels as smk
import simplematch_kernels.jit

def registered():
    return {schema.name for schema in torch._C._jit_get_all_schemas()}

source, target = torch.randn(2, 1, 8, 9, 9).unbind()
source.requires_grad_()
keypoints = 8 * torch.rand(1, 3, 2)
expected = smk.sparse_window_match(source, target, keypoints, backend="reference")
(expected_gradient,) = torch.autograd.grad(expected.keypoints.sum(), source)
"""

LOAD = """
import importlib, importlib.util, json, sys
from pathlib import Path

def load(folder):
    # as kernels does it: a module of the build's id from the file, its own name known to nothing else
    name = json.loads((Path(folder) / "metadata.json").read_text())["id"]
    spec = importlib.util.spec_from_file_location(name, Path(folder) / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    importlib.import_module(f"{name}.jit")
    return module
"""

USE = """
assert len({build.__name__ for build in builds}) == len(builds) > 1
for build in builds:  # all are loaded
    names = {"::".join((build.__name__, name)) for name in ("sparse_window_match", "localize_backward")}
    assert names <= registered(), build.__name__
    assert "simplematch_kernels" not in build.sparse_window_match.__module__.split(".")
    matches = build.sparse_window_match(source, target, keypoints)
    assert torch.equal(matches.keypoints, expected.keypoints)
    (gradient,) = torch.autograd.grad(matches.keypoints.sum(), source)
    assert torch.equal(gradient, expected_gradient)
    compiled = torch.compile(build.sparse_window_match, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(source, target, keypoints).keypoints, expected.keypoints)
    assert build.__version__ == smk.__version__ and set(build.__all__) == {*smk.__all__, "layers"}
    assert torch.equal(build.layers.CosineSimilarity()(target.flatten(2).mT, target), build.cosine_similarity(
        target.flatten(2).mT, target))
    assert build.presets.tapir() == smk.presets.tapir()
"""


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twice the same project, built under two ids."""
    folders = [tmp_path_factory.mktemp("hub") / unique_id for unique_id in ("first", "second")]
    for folder, more in zip(folders, ([], ["--unique-id", "second"]), strict=True):
        subprocess.run([sys.executable, str(ROOT / "tools" / "hub" / "layout.py"), str(folder), *more], check=True)
    return folders


@pytest.fixture(scope="module")
def layout(layouts: list[Path]) -> Path:
    return layouts[0]


def check_table(table: dict[str, Any], schema: dict[str, tuple[type, bool]]) -> None:
    assert table.keys() <= schema.keys()
    assert {key for key, (_, required) in schema.items() if required} <= table.keys()
    for key, value in table.items():
        assert type(value) is schema[key][0], key


def files_in(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def public_names(layout: Path) -> list[str]:
    """As the builder finds them for the card: the first literal list of this name."""
    body = ast.parse((layout / "torch-ext" / NAME / "__init__.py").read_text()).body
    found = next(x for x in body if isinstance(x, ast.Assign) and ast.unparse(x.targets[0]) == "__all__")
    names: list[str] = ast.literal_eval(found.value)
    return names


def test_build_toml_is_of_the_schema(layout: Path) -> None:
    build = tomllib.loads((layout / "build.toml").read_text())
    assert build.keys() == {"general", "torch-noarch"}
    check_table(build["general"], GENERAL)
    check_table(build["general"]["hub"], HUB)
    check_table(build["torch-noarch"], NOARCH)
    assert build["general"]["edition"] == 5
    assert re.fullmatch(r"[a-z][-a-z0-9]*[a-z0-9]", build["general"]["name"])
    assert re.fullmatch(r"[\w-]+/" + build["general"]["name"], build["general"]["hub"]["repo-id"])
    assert set(build["general"]["backends"]) <= BACKENDS


def test_the_project_has_what_the_builder_takes(layout: Path) -> None:
    project = {path for path in files_in(layout) if not path.startswith(("build/", f"torch-ext/{NAME}/"))}
    assert project == {
        *("build.toml", "flake.nix", "CARD.md", "example.py", "benchmarks/benchmark.py"),
        *("tests/__init__.py", f"tests/test_{NAME}.py"),
    }
    package = layout / "torch-ext" / NAME
    assert not {"_ops.py", NAME} & {path.name for path in package.iterdir()}  # the builder writes them
    assert {Path(path).suffix for path in files_in(package)} == {".py"}  # others are not taken


def test_the_card_names_functions_and_layers(layout: Path) -> None:
    jinja2 = pytest.importorskip("jinja2")
    text = (layout / "CARD.md").read_text()
    layers = [x.name for x in ast.parse((layout / "torch-ext" / NAME / "layers.py").read_text()).body
              if isinstance(x, ast.ClassDef)]  # fmt: skip
    functions = [name for name in public_names(layout) if name != "layers"]
    template = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined).from_string(text)
    known = {"repo_id": "some/kernel", "version": 7, "license": "apache-2.0", "upstream": None, "source": "https://x"}
    card = template.render(known, functions=functions, layers=layers, has_benchmark=True)
    assert card.startswith("---\nlibrary_name: kernels\nlicense: apache-2.0\ntags:\n")
    assert 'get_kernel("some/kernel", version=7' in card and "kernels benchmark some/kernel --version 7" in card
    assert {"layers", "sparse_window_match"} <= set(public_names(layout))
    listed = re.findall(r"^- `(\w+)`$", card, re.MULTILINE)
    assert listed == functions + layers
    assert "https://x" in card and "Upstream" not in card


def test_every_build_is_the_package_with_metadata(layout: Path) -> None:
    general = tomllib.loads((layout / "build.toml").read_text())["general"]
    added = {"_ops.py", f"{NAME}/__init__.py"}
    for backend in general["backends"]:
        build = layout / "build" / f"torch-{backend}"
        assert files_in(build) == files_in(layout / "torch-ext" / NAME) | added | {"metadata.json"}
        metadata = json.loads((build / "metadata.json").read_text())
        assert {k: metadata[k] for k in ("name", "version", "license")} == {
            k: general[k] for k in ("name", "version", "license")
        }
        assert metadata["backend"] == {"type": backend} and metadata["python-depends"] == []
        assert re.fullmatch(rf"_{NAME}_{backend}_[0-9a-f]{{12}}", metadata["id"])
        assert metadata["digest"]["algorithm"] == "sha256"
        assert metadata["digest"]["files"] == {
            path: base64.b64encode(hashlib.sha256((build / path).read_bytes()).digest()).decode()
            for path in files_in(build) - {"metadata.json"}
        }


def test_the_package_imports_only_what_a_kernel_may(layout: Path) -> None:
    """The standard library, torch, its Triton, and its own modules by relative names."""
    allowed = {*sys.stdlib_module_names, "torch", "triton"}
    for path in (layout / "torch-ext" / NAME).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert {name.name.partition(".")[0] for name in node.names} <= allowed, path
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert str(node.module).partition(".")[0] in allowed, path


def test_two_builds_and_the_package_run_in_one_process(layouts: list[Path]) -> None:
    folders = [str(layout / "build" / "torch-cpu") for layout in layouts]
    code = f"""
    builds = []
    for folder in {folders!r}:
        before = registered()
        builds.append(load(folder))
        new = {{name.partition("::")[0] for name in registered() - before}}
        assert new == {{builds[-1].__name__}}, new  # no operator is in another namespace
    for folder, build in zip({folders!r}, builds):  # older versions load the folder of the package's name
        spec = importlib.util.spec_from_file_location("older", Path(folder) / "{NAME}" / "__init__.py")
        older = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(older)
        assert older.__all__ == build.__all__ and older.presets is build.presets
        assert all(getattr(older, name) is getattr(build, name) for name in build.__all__)
    """
    result = run(SETUP + LOAD + textwrap.dedent(code) + USE)
    assert result.returncode == 0, result.stderr
    assert "'cpu' is not used on cpu: this copy of the package has no compiled code" in result.stderr


def test_the_kernels_library_loads_and_checks_it(layouts: list[Path]) -> None:
    """With its own readers, loaders and rules of layers, and its benchmark class."""
    pytest.importorskip("kernels", reason="kernels is not installed (pip install kernels)")
    code = f"""
    import runpy
    from pathlib import Path
    from kernels import LocalLayerRepository, Mode, get_kernel, get_local_kernel, kernelize
    from kernels import use_kernel_forward_from_hub, use_kernel_mapping
    from kernels._rust import Build, Digest, DigestAlgorithm, Metadata
    first, second = map(Path, {[str(x) for x in layouts]!r})
    assert [str(b) for b in Build.open(first).general.backends] == ["cpu", "cuda"]
    for build in ("torch-cpu", "torch-cuda"):
        metadata = Metadata.read_from_file(first / "build" / build / "metadata.json")
        metadata.digest.validate(Digest.hash_variant(DigestAlgorithm.SHA256, first / "build" / build))
    builds = [get_kernel("simplematch/simplematch-kernels", version=1), get_local_kernel(second, backend="cpu")]

    @use_kernel_forward_from_hub("Matcher")
    class Matcher(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.options = {{"backend": "reference"}}

        def forward(self, source, target, keypoints):
            raise AssertionError("kernelize replaces this forward")

    with use_kernel_mapping({{"Matcher": {{"cpu": LocalLayerRepository(second, layer_name="SparseWindowMatch")}}}}):
        matcher = kernelize(Matcher(), mode=Mode.TRAINING | Mode.TORCH_COMPILE, device="cpu")
    assert torch.equal(matcher(source, target, keypoints).keypoints, expected.keypoints)

    benchmark = runpy.run_path(str(first / "benchmarks" / "benchmark.py"))["SparseMatching"]()
    benchmark.kernel = builds[0]
    benchmark.setup()
    for workload in ("window", "similarity"):
        getattr(benchmark, f"benchmark_{{workload}}")()
        torch.testing.assert_close(benchmark.out, getattr(benchmark, f"verify_{{workload}}")(), rtol=0, atol=1e-3)
    runpy.run_path(str(first / "example.py"))
    tests = runpy.run_path(str(first / "tests" / "test_{NAME}.py"))
    tests["test_gradients_are_those_of_the_reference"]()
    tests["test_layers_match_without_state"]()
    tests["test_matches_are_those_of_plain_pytorch"](torch.bfloat16)
    """
    result = run(SETUP + textwrap.dedent(code) + USE, LOCAL_KERNELS=f"simplematch/simplematch-kernels={layouts[0]}")
    assert result.returncode == 0, result.stderr
