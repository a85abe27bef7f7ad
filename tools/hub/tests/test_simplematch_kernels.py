"""Of the kernel as the hub loads it; LOCAL_KERNELS=REPO-ID=FOLDER takes it from a folder."""

import kernels
import pytest
import torch

kernel = kernels.get_kernel("simplematch/simplematch-kernels", version=1)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def draw(dtype=torch.float32):
    torch.manual_seed(0)
    source, target = torch.randn(2, 2, 64, 16, 16, device=DEVICE).to(dtype).unbind()
    return source, target, 15 * torch.rand(2, 7, 2, device=DEVICE)


@pytest.mark.kernels_ci
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_matches_are_those_of_plain_pytorch(dtype):
    source, target, keypoints = draw(dtype)
    found = kernel.sparse_window_match(source, target, keypoints, localization="argmax")
    x, y = keypoints.long().unbind(-1)
    queries = source[torch.arange(2)[:, None], :, y, x].float()
    scores = torch.cosine_similarity(queries[..., None, None], target[:, None].float(), dim=2)
    best = scores.flatten(2).argmax(-1)
    expected = torch.stack((best % 16, best // 16), -1).float()
    assert torch.equal(found.keypoints, expected)
    torch.testing.assert_close(found.score.float(), scores.flatten(2).amax(-1), rtol=0, atol=0.01)


@pytest.mark.kernels_ci
def test_gradients_are_those_of_the_reference():
    source, target, keypoints = draw()
    gradients = []
    for backend in ("auto", "reference"):
        leaf = source.clone().requires_grad_()
        found = kernel.sparse_window_match(leaf, target, keypoints, window_size=5, backend=backend)
        gradients += torch.autograd.grad(found.keypoints.sum(), leaf)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


@pytest.mark.kernels_ci
def test_layers_match_without_state():
    source, target, keypoints = draw()
    found = kernel.layers.SparseWindowMatch()(source, target, keypoints)
    assert torch.equal(found.keypoints, kernel.sparse_window_match(source, target, keypoints).keypoints)
