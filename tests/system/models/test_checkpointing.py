"""Activation checkpointing changes memory, but neither results nor batch norm statistics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from simplematch.models import SimpleMatch, multi_scale_loss

from .tiny import NAMES, pair, tiny_model


def _step(model: SimpleMatch) -> tuple[float, dict[str, Tensor], dict[str, Tensor], int]:
    """Return loss, gradients and buffers after one training step, and the bytes saved by the forward."""
    source, target, keypoints, counts = pair(model.image_size)
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    torch.manual_seed(7)  # dropout
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        matches = model(source, target, keypoints, counts)
    loss = torch.stack(multi_scale_loss(matches, keypoints, counts)).sum()
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return loss.item(), gradients, dict(model.named_buffers()), sum(kept.values())


@pytest.mark.parametrize("name", [x for x in NAMES if x not in ("dinov2-b14-448", "dinov2-s14-252")])
def test_same_step_in_less_memory(name: str) -> None:
    plain = tiny_model(name).train()
    saving = tiny_model(name, checkpoint_encoder=True, checkpoint_decoder=True).train()
    assert list(plain.state_dict()) == list(saving.state_dict())
    loss, gradients, buffers, kept = _step(plain)
    saving_loss, saving_gradients, saving_buffers, saving_kept = _step(saving)
    assert loss == saving_loss
    assert gradients.keys() == saving_gradients.keys()
    for key, x in gradients.items():
        torch.testing.assert_close(saving_gradients[key], x, atol=1e-6, rtol=1e-4)
    for key, x in buffers.items():
        assert torch.equal(saving_buffers[key], x), key
    assert saving_kept < 0.8 * kept


@pytest.mark.parametrize("name", ["dinov2-b14-252", "ibot-b16-256", "resnet101-256"])
def test_gradients_are_those_of_dense_matching(name: str) -> None:
    """The steps with least and most memory agree to 1e-5 of each gradient."""
    dense = tiny_model(name, matching="dense").train()
    saving = tiny_model(name, checkpoint_encoder=True, checkpoint_decoder=True).train()
    loss, gradients, _, _ = _step(dense)
    saving_loss, saving_gradients, _, _ = _step(saving)
    assert saving_loss == pytest.approx(loss, rel=1e-5)
    largest = max(x.norm() for x in gradients.values())
    for key, x in gradients.items():
        assert (saving_gradients[key] - x).norm() <= 1e-5 * x.norm() + 1e-7 * largest, key


def test_statistics_move_once_under_the_compiler_too() -> None:
    plain, saving = tiny_model("ibot-b16-256").train(), tiny_model("ibot-b16-256", checkpoint_decoder=True).train()
    source = pair(plain.image_size)[0]
    plain.decoder.dropout.p = saving.decoder.dropout.p = 0.0
    compiled = torch.compile(saving.decoder, backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        tokens = plain.encoder(source)
    plain.decoder(tokens, (64, 64))[-1].sum().backward()
    compiled(tokens, (64, 64))[-1].sum().backward()
    for (key, x), y in zip(plain.decoder.named_buffers(), saving.decoder.buffers(), strict=True):
        torch.testing.assert_close(y, x, msg=key)
