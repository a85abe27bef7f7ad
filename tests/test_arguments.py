"""Bad input raises one sentence that names the argument, what came and what may come; nothing has run by then."""

from __future__ import annotations

import inspect
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch

import simplematch_kernels as smk
import simplematch_kernels.numpy as smk_numpy
from simplematch_kernels import _check_shapes

from .samples import DEVICE

SOURCE = torch.randn(2, 8, 5, 6, device=DEVICE)
TARGET = torch.randn(2, 8, 7, 4, device=DEVICE)
KEYPOINTS = torch.rand(2, 3, 2, device=DEVICE)


def match(**changes: Any) -> smk.Matches:
    return smk.sparse_window_match(**{"source": SOURCE, "target": TARGET, "keypoints": KEYPOINTS, **changes})


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"source": SOURCE[0]}, ValueError, r"source must have shape \(B, C, H, W\), got \(8, 5, 6\)"),
    ({"source": [1.0]}, TypeError, r"source must be a tensor of shape \(B, C, H, W\), got list"),
    ({"source": SOURCE.long()}, TypeError, "source must be float32, bfloat16, float16 or float64, got torch.int64"),
    ({"source": SOURCE.double()}, TypeError, "source and target must have one dtype, got torch.float64"),
    ({"source": SOURCE[:1]}, ValueError, "source must have the same batch size as target, got 1 and 2"),
    ({"source": SOURCE[:, :4]}, ValueError, "source must have the same number of channels as target, got 4 and 8"),
    (
        {"source": SOURCE[:, :0], "target": TARGET[:, :0]},
        ValueError,
        "source must have at least one channel and one cell",
    ),
    ({"target": TARGET[..., :0]}, ValueError, "target must have at least one channel and one cell"),
    ({"target": TARGET.to("meta")}, ValueError, "source and target must be on one device, got .* and meta"),
    ({"keypoints": KEYPOINTS[..., :1]}, ValueError, r"keypoints must have shape \(B, N, 2\), got \(2, 3, 1\)"),
    ({"keypoints": KEYPOINTS[0]}, ValueError, r"keypoints must have shape \(B, N, 2\), got \(3, 2\)"),
    ({"keypoints": KEYPOINTS[:1]}, ValueError, "keypoints must have the same batch size as source, got 1 and 2"),
    ({"keypoints": KEYPOINTS > 0}, TypeError, "keypoints must be real numbers, got torch.bool"),
    ({"keypoints": KEYPOINTS.to("meta")}, ValueError, "keypoints must be on the device of source, .*, got meta"),
    (
        {"num_keypoints": torch.ones(3, dtype=torch.long, device=DEVICE)},
        ValueError,
        "num_keypoints must have the same batch size",
    ),
    ({"num_keypoints": torch.ones(2, device=DEVICE)}, TypeError, "num_keypoints must hold integers, got torch.float32"),
    ({"valid": torch.ones(2, 3, device=DEVICE)}, TypeError, "valid must be bool, got torch.float32"),
    (
        {"valid": torch.ones(2, 4, dtype=torch.bool, device=DEVICE)},
        ValueError,
        r"valid must have shape \(B, N\) = \(2, 3\)",
    ),
    (
        {"target_mask": torch.ones(2, 4, 7, dtype=torch.bool, device=DEVICE)},
        ValueError,
        r"target_mask must have shape \(B, H, W\) = \(2, 7, 4\), got \(2, 4, 7\)",
    ),
    (
        {"target_mask": torch.ones(2, 1, 7, 4, dtype=torch.bool, device=DEVICE)},
        ValueError,
        r"target_mask must have shape \(B, N, H, W\) = \(2, 3, 7, 4\), got \(2, 1, 7, 4\)",
    ),
    (
        {"target_mask": torch.ones(2, 28, dtype=torch.bool, device=DEVICE)},
        ValueError,
        r"target_mask must have shape \(B, H, W\) or \(B, N, H, W\), got \(2, 28\)",
    ),
    (
        {"target_mask": [True]},
        TypeError,
        r"target_mask must be (a tensor|an array) of shape \(B, H, W\) or \(B, N, H, W\), got list",
    ),
    (
        {"target_mask": torch.ones(2, 7, 4, device=DEVICE)},
        TypeError,
        "target_mask must be bool, got (torch.)?float32; `target_mask > 0` makes it so",
    ),
    (
        {"target_mask": torch.ones(2, 3, 7, 4, device=DEVICE)},
        TypeError,
        "target_mask must be bool, got (torch.)?float32; `target_mask > 0` makes it so",
    ),
    (
        {"source_size": 252},
        TypeError,
        r"source_size must be \(height, width\) in whole pixels, \(B, 2\) integers or None, got 252",
    ),
    (
        {"source_size": torch.ones(2, 2, 2, dtype=torch.long, device=DEVICE)},
        TypeError,
        r"source_size must be \(height, width\) in whole pixels, .*, got (Tensor|ndarray) of shape \(2, 2, 2\)",
    ),
    (
        {"source_size": torch.tensor([[8, 8]], device=DEVICE)},
        ValueError,
        r"source_size must have shape \(B, 2\) = \(2, 2\), got \(1, 2\)",
    ),
    ({"target_size": torch.ones(2, 2, device=DEVICE)}, TypeError, "target_size must hold integers, got torch.float32"),
    ({"window_size": True}, TypeError, "window_size must be a whole number of cells, .* got True"),
    ({"window_size": np.float64(5)}, TypeError, "window_size must be a whole number of cells"),
    ({"eps": torch.ones(2)}, TypeError, r"eps must be a number, got (Tensor|ndarray) of shape \(2,\)"),
    ({"temperature": np.float32(0)}, ValueError, "temperature must be a finite number above 0.0, got 0.0"),
    ({"source_size": (252.0, 252)}, TypeError, r"source_size must be \(height, width\) in whole pixels"),
    ({"target_size": (252, 0)}, ValueError, r"target_size must be at least 1 x 1 pixel, got \(252, 0\)"),
    (
        {"source_coords": "centre"},
        ValueError,
        "source_coords must be one of 'corner', 'half_pixel', 'align_corners', got 'centre'",
    ),
    ({"target_coords": None}, ValueError, "target_coords must be one of"),
    ({"sampling": "nearest"}, ValueError, "sampling must be one of 'floor', 'round', 'bilinear', got 'nearest'"),
    ({"sampling_padding": "reflect"}, ValueError, "sampling_padding must be one of 'zeros', 'border'"),
    ({"metric": "cos"}, ValueError, "metric must be one of 'cosine', 'dot', 'l2', 'l1', got 'cos'"),
    ({"eps": -1.0}, ValueError, "eps must be a finite number of at least 0.0, got -1.0"),
    ({"eps_mode": "max"}, ValueError, "eps_mode must be one of 'add', 'clamp'"),
    ({"localization": "soft"}, ValueError, "localization must be one of 'argmax', 'window', 'global', 'gaussian'"),
    ({"localization": "gaussian"}, ValueError, "sigma must be given, in cells, for localization 'gaussian', got None"),
    ({"localization": "gaussian", "sigma": 0.0}, ValueError, "sigma must be a finite number above 0.0, got 0.0"),
    ({"window_size": -3}, ValueError, "window_size must be at least 1 cell, got -3"),
    ({"window_size": 0}, ValueError, "window_size must be at least 1 cell, got 0"),
    ({"window_size": 4.0}, TypeError, r"window_size must be a whole number of cells, or \(height, width\), got 4.0"),
    ({"window_size": (3, 3, 3)}, TypeError, "window_size must be a whole number of cells"),
    ({"window_shape": "circle"}, ValueError, "window_shape must be one of 'square', 'plus', 'disc', got 'circle'"),
    ({"window_size": 2.5}, TypeError, "got 2.5; other sizes need window_shape='disc'"),
    (
        {"window_size": (3, 2.5), "window_shape": "plus"},
        TypeError,
        r"got \(3, 2.5\); other sizes need window_shape='disc'",
    ),
    (
        {"window_size": "big"},
        TypeError,
        r"window_size must be a whole number of cells, or \(height, width\), got 'big'$",
    ),
    (
        {"window_size": (3, 3, 3), "window_shape": "disc"},
        TypeError,
        r"window_size must be a number of cells, or \(height, width\), for a disc, got \(3, 3, 3\)",
    ),
    ({"window_size": True, "window_shape": "disc"}, TypeError, "window_size must be a number of cells, .* got True"),
    (
        {"window_size": 0.5, "window_shape": "disc"},
        ValueError,
        "window_size must be a finite number of cells of at least 1, got 0.5",
    ),
    ({"window_size": (3.0, math.nan), "window_shape": "disc"}, ValueError, r"of at least 1, got \(3.0, nan\)"),
    ({"window_size": math.inf, "window_shape": "disc"}, ValueError, "window_size must be a finite number .*, got inf"),
    ({"disc_edge": "sharp"}, ValueError, "disc_edge must be one of 'open', 'closed', got 'sharp'"),
    ({"border": "pad"}, ValueError, "border must be one of 'shift', 'shrink', got 'pad'"),
    ({"outside_value": math.nan}, ValueError, "outside_value must be -inf or a finite number, got nan"),
    ({"outside_value": math.inf}, ValueError, "outside_value must be -inf or a finite number, got inf"),
    ({"output_offset": math.inf}, ValueError, "output_offset must be a finite number, got inf"),
    ({"temperature": 0.0}, ValueError, "temperature must be a finite number above 0.0, got 0.0"),
    ({"temperature": "hot"}, TypeError, "temperature must be a number, got str"),
    (
        {"temperature": torch.ones(2, device=DEVICE)},
        ValueError,
        r"temperature must be a number, a 0-d tensor or of shape \(B, N\) = \(2, 3\)",
    ),
    (
        {"temperature": torch.ones(2, 3, dtype=torch.long, device=DEVICE)},
        TypeError,
        "temperature must be a floating-point tensor",
    ),
    (
        {"backend": "cudnn"},
        ValueError,
        "backend must be one of 'auto', 'triton', 'cuda', 'cpu', 'reference', got 'cudnn'",
    ),
]

needs_values = pytest.mark.skipif(DEVICE.type != "cpu", reason="values on a GPU are checked in the kernels")


@pytest.mark.parametrize(("changes", "kind", "message"), WRONG, ids=[m.split(",")[0] for _, _, m in WRONG])
def test_wrong_argument(changes: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        match(**changes)
    assert "\n" not in str(caught.value)


@needs_values
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_keypoints_that_are_not_finite(value: float, backend: str) -> None:
    keypoints = KEYPOINTS.clone()
    keypoints[1, 2, 0] = value
    with pytest.raises(ValueError, match=r"keypoints must be finite .*got \[.*\] in batch 1, row 2; mark padded rows"):
        match(keypoints=keypoints, backend=backend)
    with pytest.raises(ValueError, match="keypoints must be finite"):
        smk.gather_keypoints(SOURCE, keypoints, backend=backend)
    padded = match(keypoints=keypoints, num_keypoints=torch.tensor([3, 2]), backend=backend)
    assert (padded.keypoints[1, 2] == -1).all()


@needs_values
def test_counts_and_temperatures_out_of_range(backend: str) -> None:
    with pytest.raises(ValueError, match=r"num_keypoints must lie between 0 and .* 3, got \[4, 1\]"):
        match(num_keypoints=torch.tensor([4, 1]), backend=backend)
    with pytest.raises(ValueError, match="num_keypoints must lie between 0"):
        match(num_keypoints=torch.tensor([-1, 1]), backend=backend)
    temperature = torch.full((2, 3), 0.1)
    temperature[0, 1] = 0
    with pytest.raises(ValueError, match=r"temperature must be above zero .* got 0\.0 in batch 0, row 1"):
        match(temperature=temperature, backend=backend)
    assert match(temperature=temperature, valid=temperature > 0, backend=backend).keypoints.isfinite().all()


@pytest.mark.skipif(DEVICE.type != "cuda", reason="on the CPU these raise")
@pytest.mark.parametrize("sampling", ["floor", "round", "bilinear"])
def test_wrong_values_on_a_gpu_answer_nan(sampling: str, backend: str) -> None:
    keypoints, temperature = KEYPOINTS.clone(), torch.full((2, 3), 0.1, device=DEVICE)
    keypoints[1, 2, 0] = math.nan
    temperature[0, 1] = 0
    clean = match(backend=backend, sampling=sampling, temperature=0.1)
    dirty = match(keypoints=keypoints, temperature=temperature, backend=backend, sampling=sampling)
    wrong = torch.zeros(2, 3, dtype=torch.bool, device=DEVICE)
    wrong[1, 2] = wrong[0, 1] = True
    assert dirty.keypoints[wrong].isnan().all()
    assert torch.equal(dirty.keypoints[~wrong], clean.keypoints[~wrong])


def test_other_functions_name_their_arguments() -> None:
    descriptors = torch.randn(2, 3, 8, device=DEVICE)
    with pytest.raises(ValueError, match=r"descriptors must have shape \(B, N, C\), got \(3, 8\)"):
        smk.match_descriptors(descriptors[0], TARGET)
    with pytest.raises(ValueError, match="descriptors must have the same number of channels as target, got 4 and 8"):
        smk.cosine_similarity(descriptors[..., :4], TARGET)
    with pytest.raises(ValueError, match=r"scores must have shape \(B, N, H, W\), got \(2, 3, 8\)"):
        smk.localize(descriptors)
    with pytest.raises(ValueError, match="padding must be one of 'zeros', 'border', got 'reflect'"):
        smk.gather_keypoints(SOURCE, KEYPOINTS, padding="reflect")
    with pytest.raises(ValueError, match=r"size must be at least 1 x 1 pixel, got \(0, 4\)"):
        smk.gather_keypoints(SOURCE, KEYPOINTS, size=(0, 4))
    with pytest.raises(ValueError, match="window_size must be at least 1 cell, got -1"):
        smk.extract_windows(torch.randn(1, 1, 4, 4, device=DEVICE), window_size=-1)


MANY = 2**30 + 1
FEW = torch.zeros(1, 4, 5, 5)
ROWS, WIDE = torch.zeros(1, 1, 4).expand(1, MANY, 4), torch.zeros(1, 4, 1, 1).expand(1, 4, 1, MANY)  # without memory


@pytest.mark.parametrize(
    ("function", "arguments", "options", "message"),
    [
        ("sparse_window_match", (FEW, WIDE, torch.zeros(1, 3, 2)), {}, "target must have at most 2^30 cells"),
        ("sparse_window_match", (FEW, FEW, torch.zeros(1, 1, 2).expand(1, MANY, 2)), {}, "keypoints .* 2^30 rows"),
        ("match_descriptors", (ROWS, FEW), {}, "descriptors must have at most 2^30 rows"),
        ("localize", (WIDE,), {}, "scores must have at most 2^30 cells"),
        ("localize", (FEW,), {"upsample": (2**20, 2**20)}, "upsample must have at most 2^30 cells"),
        ("local_correlation", (ROWS, FEW, torch.zeros(1, 3, 2)), {"radius": 1}, "queries must have at most 2^30 rows"),
        ("match_all", (ROWS, ROWS), {}, "a must have at most 2^30 rows"),
        ("match_all", (FEW, WIDE), {}, "b must have at most 2^30 cells"),
    ],
)
def test_more_cells_or_rows_than_32_bits_count(
    function: str, arguments: tuple[torch.Tensor, ...], options: dict[str, Any], message: str
) -> None:
    pattern = message.replace("^", r"\^")
    with pytest.raises(ValueError, match=pattern):
        getattr(smk, function)(*arguments, **options)
    with pytest.raises(ValueError, match=pattern):
        getattr(smk_numpy, function)(*(x.numpy() for x in arguments), **options)


def test_integer_keypoints_are_pixels_too(backend: str) -> None:
    keypoints = torch.tensor([[[1, 2], [3, 4], [5, 0]]] * 2, device=DEVICE)
    assert torch.equal(
        match(keypoints=keypoints, backend=backend).keypoints,
        match(keypoints=keypoints.float(), backend=backend).keypoints,
    )


DETAILS = {"return_covariance": True, "return_second": True}
SAME: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"window_size": 3}, {"window_size": np.int64(3)}),
    ({"window_size": 3}, {"window_size": torch.tensor([3])}),
    ({"window_size": (3, 2)}, {"window_size": np.array([3, 2])}),
    ({"window_size": 4.5, "window_shape": "disc"}, {"window_size": np.float64(4.5), "window_shape": "disc"}),
    ({"window_size": 4.5, "window_shape": "disc"}, {"window_size": torch.tensor(4.5), "window_shape": "disc"}),
    ({"window_size": (2, 4.5), "window_shape": "disc"}, {"window_size": np.array([2, 4.5]), "window_shape": "disc"}),
    ({"window_size": 3, "window_shape": "plus"}, {"window_size": np.array([3]), "window_shape": "plus"}),
    ({"source_size": (20, 24)}, {"source_size": (np.int32(20), torch.tensor(24))}),
    ({"target_size": (20, 24)}, {"target_size": torch.tensor([20, 24])}),
    ({"eps": 0.5}, {"eps": np.float32(0.5)}),
    ({"eps": 0.5}, {"eps": torch.tensor([0.5])}),
    ({"output_offset": 2.0}, {"output_offset": torch.tensor(2)}),
    ({"output_offset": 2.0}, {"output_offset": np.array(2)}),
    ({"outside_value": 0.25}, {"outside_value": torch.tensor(0.25)}),
    ({"localization": "gaussian", "sigma": 2.0}, {"localization": "gaussian", "sigma": torch.tensor([2])}),
    ({"temperature": 0.25}, {"temperature": np.array(0.25)}),
    ({**DETAILS, "second_radius": 2}, {**DETAILS, "second_radius": np.array([2])}),
    ({"outside_value": 0.25}, {"outside_value": np.array([0.25])}),
    ({"localization": "gaussian", "sigma": 2.0}, {"localization": "gaussian", "sigma": np.float64(2)}),
    ({"temperature": 0.25}, {"temperature": np.float16(0.25)}),
    ({"temperature": 0.25}, {"temperature": torch.tensor([0.25], device=DEVICE)}),
    ({"temperature": 1.0}, {"temperature": torch.tensor(1, device=DEVICE)}),
]


@pytest.mark.parametrize(("plain", "other"), SAME, ids=[str(other) for _, other in SAME])
def test_numbers_of_other_libraries_are_numbers(plain: dict[str, Any], other: dict[str, Any]) -> None:
    for a, b in zip(match(**plain), match(**other), strict=True):
        assert a is b is None or torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("window_size", np.int64(3), np.int64(5)),
        ("temperature", np.float64(0.02), np.float64(0.5)),
        ("temperature", torch.tensor(0.02, device=DEVICE), torch.tensor(0.5, device=DEVICE)),
        ("target_size", (np.int64(20), np.int64(24)), (np.int64(40), np.int64(48))),
        ("target_size", torch.tensor([20, 24]), torch.tensor([40, 48])),
        ("target_size", torch.tensor([[20, 24]] * 2), torch.tensor([[40, 48]] * 2)),
        ("output_offset", torch.tensor(0.5), torch.tensor(1.5)),
    ],
    ids=str,
)
def test_a_second_call_has_its_own_values(name: str, first: Any, second: Any) -> None:
    """Calls of one kind are checked once, which must not mix up numbers of other libraries."""

    def plain(value: Any) -> Any:
        return tuple(map(int, value)) if isinstance(value, tuple) else value.tolist()

    for value in (first, second):
        expected = match(**{name: value if np.ndim(plain(value)) == 2 else plain(value)})
        assert torch.equal(match(**{name: value}).keypoints, expected.keypoints)
    assert not torch.equal(match(**{name: first}).keypoints, match(**{name: second}).keypoints)


@pytest.mark.parametrize("sampling", ["floor", "round", "bilinear"])
def test_keypoints_without_a_gradient_make_no_result_require_one(sampling: str, backend: str) -> None:
    keypoints = KEYPOINTS.clone().requires_grad_()
    moves = sampling == "bilinear"
    assert match(keypoints=keypoints, sampling=sampling, backend=backend).keypoints.requires_grad == moves
    assert smk.gather_keypoints(SOURCE, keypoints, sampling=sampling, backend=backend).requires_grad == moves


@needs_values
def test_unmarked_padding_warns_once(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    monkeypatch.setattr(_check_shapes, "_warnings_given", set())
    padded = KEYPOINTS.clone()
    padded[1, 2] = -1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        match(keypoints=padded, num_keypoints=torch.tensor([3, 2]), backend=backend)
    with pytest.warns(
        UserWarning, match=r"negative coordinates only, \[-1.0, -1.0\] in batch 1, row 2.*mark padded rows"
    ):
        match(keypoints=padded, backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        match(keypoints=padded, backend=backend)
    monkeypatch.setattr(_check_shapes, "_warnings_given", set())
    with pytest.warns(UserWarning, match="negative coordinates only"):
        smk_numpy.sparse_window_match(*(x.numpy() for x in (SOURCE, TARGET, padded)))


@pytest.mark.parametrize("name", ["sparse_window_match", "match_descriptors", "localize", "cosine_similarity"])
def test_signatures_show_every_option_with_its_default(name: str) -> None:
    """For help() and editors; the functions on arrays have the same, and `threads` for `backend`."""
    ours, arrays = (inspect.signature(getattr(module, name)).parameters for module in (smk, smk_numpy))
    assert {*ours} - {"backend"} == {*arrays} - {"threads"}
    options = [p for p in ours.values() if p.kind is p.KEYWORD_ONLY]
    assert all(p.default is not p.empty and p.annotation is not p.empty for p in options)
    assert all(ours[key].default == arrays[key].default for key in {*ours} & {*arrays})
    assert name not in ("sparse_window_match",) or (ours["window_size"].default, ours["eps"].default) == (45, 1e-8)


def test_an_unknown_option_is_named_with_the_closest_known_one(backend: str) -> None:
    for module, extra in ((smk, {"backend": backend}), (smk_numpy, {})):
        source, target, keypoints = (x if module is smk else x.numpy() for x in (SOURCE, TARGET, KEYPOINTS))
        with pytest.raises(
            TypeError, match=r"sparse_window_match\(\) got .* 'windowsize'; did you mean 'window_size'\?"
        ):
            module.sparse_window_match(source, target, keypoints, windowsize=3, **extra)
        with pytest.raises(
            TypeError, match=r"got an unexpected keyword argument 'zzz'; known are num_keypoints, valid, "
        ):
            module.sparse_window_match(source, target, keypoints, zzz=3, **extra)
        with pytest.raises(TypeError, match="unexpected keyword argument 'fixed_temperature'"):
            module.localize(target, fixed_temperature=3)
