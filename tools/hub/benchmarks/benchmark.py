"""For `kernels benchmark`: the operators beside plain PyTorch, at the sizes of the SimpleMatch paper."""

import torch
from kernels.benchmark import Benchmark
from torch import Tensor


class SparseMatching(Benchmark):
    """32 pairs of maps of 1024 channels; the score map of plain PyTorch holds every query and cell."""

    seed = 0

    def setup(self) -> None:
        batch = 32 if self.device == "cuda" else 2
        self.source, self.target = torch.randn(2, batch, 1024, 32, 32, device=self.device).unbind()
        self.keypoints = 31 * torch.rand(batch, 40, 2, device=self.device)

    def benchmark_window(self) -> None:
        self.out = self.kernel.sparse_window_match(
            self.source, self.target, self.keypoints, window_size=15, temperature=0.02
        ).keypoints

    def verify_window(self) -> Tensor:
        scores = self._scores()
        height, width = scores.shape[2:]
        peak = scores.flatten(2).argmax(-1)
        corner = torch.stack((peak % width, peak // width), -1) - 15 // 2
        corner = corner.clamp(min=0).minimum(corner.new_tensor([width, height]) - 15)
        cells = torch.stack(torch.meshgrid(*(torch.arange(n) for n in (width, height)), indexing="xy"), -1)
        cells = cells.to(scores.device)
        inside = ((cells >= corner[:, :, None, None]) & (cells < corner[:, :, None, None] + 15)).all(-1)
        weights = (scores / 0.02).masked_fill(~inside, -torch.inf).flatten(2).softmax(-1)
        return weights @ cells.flatten(0, 1).to(scores)

    def benchmark_similarity(self) -> None:
        descriptors = self.kernel.gather_keypoints(self.source, self.keypoints)
        self.out = self.kernel.cosine_similarity(descriptors, self.target)

    def verify_similarity(self) -> Tensor:
        return self._scores()

    def _scores(self) -> Tensor:
        image = torch.arange(len(self.source), device=self.source.device)[:, None]
        x, y = self.keypoints.long().unbind(-1)
        queries = torch.nn.functional.normalize(self.source[image, :, y, x], dim=2)
        return torch.einsum("bnc,bchw->bnhw", queries, torch.nn.functional.normalize(self.target, dim=1))
