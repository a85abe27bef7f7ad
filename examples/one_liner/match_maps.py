"""Match a few points of one feature map in another, and compute the gradient."""

import torch

import simplematch_kernels as smk

torch.manual_seed(0)
source = torch.randn(1, 32, 40, 40, requires_grad=True)  # (B, C, H, W)
target = source.detach().roll((3, 7), (2, 3)).requires_grad_()  # the same map, 3 cells down and 7 to the right
keypoints = torch.tensor([[[4.0, 5.0], [20.0, 11.0], [30.0, 30.0]]])  # (B, N, 2) as (x, y), in cells

matches = smk.sparse_window_match(source, target, keypoints, window_size=9)
matches.keypoints.sum().backward()

print(smk.explain("cpu"))
print("shift of every keypoint:", (matches.keypoints - keypoints).detach().round(decimals=3).tolist())
print("cells with a gradient:", int(target.grad.abs().sum(1).count_nonzero()), "of", 40 * 40)
