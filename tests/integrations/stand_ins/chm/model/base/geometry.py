"""Stands in for CHM: points are spread over the cells near them, and the cells' matches averaged."""

import torch


class Geometry:
    @classmethod
    def initialize(cls, img_size):
        cls.img_size, cls.spatial_side = img_size, img_size // 8
        line = torch.linspace(-1, 1, cls.spatial_side)
        cls.cells = torch.cartesian_prod(line, line).flip(1)

    @classmethod
    def normalize_kps(cls, kps):
        half = cls.img_size // 2
        return torch.where(kps == -2, kps, (kps - half) / half)

    @classmethod
    def attentive_indexing(cls, kps, thres=0.1):
        distance = ((cls.cells - kps[:, None]) ** 2).sum(2).add(1e-5).sqrt()
        weight = (thres - distance).clamp(min=0)
        return (weight / weight.sum(1, keepdim=True)).unflatten(1, (cls.spatial_side, cls.spatial_side))

    @classmethod
    def transfer_kps(cls, confidence_ts, src_kps, n_pts, normalized):
        points = src_kps if normalized else cls.normalize_kps(src_kps)
        number = torch.arange(cls.spatial_side**2)
        place = torch.stack((number % cls.spatial_side, number // cls.spatial_side), 1).float()
        away = ((place - place[confidence_ts.argmax(2)][:, :, None]) ** 2).sum(3)
        weights = torch.softmax(torch.exp(-away / (2 * 17**2)) * confidence_ts, 2)
        matches = weights @ cls.cells
        found = torch.full_like(points, -2)
        for i, n in enumerate(n_pts.tolist()):
            found[i, :, :n] = (cls.attentive_indexing(points[i, :, :n].T).flatten(1) @ matches[i]).T
        return found
