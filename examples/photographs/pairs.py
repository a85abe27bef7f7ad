"""Pairs of photographs with known ground truth, from files of the scikit-image package.

Coordinates are (x, y) in pixels; pixel (0, 0) is the centre of the top-left pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from skimage import color, data, feature, transform


@dataclass(frozen=True)
class Pair:
    """Two photographs (H, W, 3) uint8, keypoints (N, 2) of the source and their ground truth (N, 2) in the target."""

    name: str
    source: np.ndarray
    target: np.ndarray
    keypoints: np.ndarray
    truth: np.ndarray


def load_pairs(count: int = 60) -> list[Pair]:
    """Load three photographs with a known warp of each, and one stereo pair; at most `count` keypoints each."""
    return [
        warped_pair("astronaut", data.astronaut(), count, degrees=18, scale=0.8, tilt=(0.15, -0.1)),
        warped_pair("chelsea", data.chelsea(), count, degrees=-12, scale=1.15, tilt=(0.2, 0.2)),
        warped_pair("coffee", data.coffee(), count, degrees=25, scale=0.75, tilt=(-0.2, 0.25)),
        stereo_pair("motorcycle", *data.stereo_motorcycle(), count),
    ]


def warped_pair(
    name: str, photograph: np.ndarray, count: int, degrees: float, scale: float, tilt: tuple[float, float]
) -> Pair:
    """Pair a photograph with its image under a known projective map."""
    source = crop(photograph)
    height, width = source.shape[:2]
    warp = projective_map(width, height, degrees, scale, tilt)
    target = transform.warp(source, warp.inverse, order=3, cval=127, preserve_range=True)
    keypoints = interest_points(source, np.ones((height, width), bool), count)
    truth = warp(keypoints)
    seen = ((truth >= 8) & (truth <= (width - 9, height - 9))).all(1)
    return Pair(name, source, target.round().clip(0, 255).astype(np.uint8), keypoints[seen], truth[seen])


def projective_map(
    width: int, height: int, degrees: float, scale: float, tilt: tuple[float, float]
) -> transform.ProjectiveTransform:
    """Compose a rotation and scaling about the centre with a perspective tilt."""
    cos, sin = scale * np.cos(np.deg2rad(degrees)), scale * np.sin(np.deg2rad(degrees))
    to_centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    about_centre = np.array([[cos, -sin, 0], [sin, cos, 0], [tilt[0] / width, tilt[1] / height, 1]])
    return transform.ProjectiveTransform(np.linalg.inv(to_centre) @ about_centre @ to_centre)


def stereo_pair(name: str, left: np.ndarray, right: np.ndarray, disparity: np.ndarray, count: int) -> Pair:
    """Make a stereo pair: pixel (x, y) of the left image is (x - disparity, y) of the right image.

    Keypoints are where the disparity is measured and the surface is visible in the right image.
    """
    source, target, disparity = crop(left), crop(right), crop(disparity)
    keypoints = interest_points(source, visible_in_both(disparity), count)
    x, y = keypoints.astype(int).T
    return Pair(name, source, target, keypoints, keypoints - np.stack([disparity[y, x], 0 * x], 1))


def visible_in_both(disparity: np.ndarray) -> np.ndarray:
    """Return a mask (H, W) of the left image's pixels that have a known match and are not occluded."""
    height, width = disparity.shape
    known = np.isfinite(disparity)
    y, x = np.nonzero(known)
    d = disparity[known]
    column = np.round(x - d).astype(int)
    y, x, d, column = (a[column >= 0] for a in (y, x, d, column))
    nearest = np.zeros((height, width + 2))  # largest disparity in each column of the right one, with a margin
    np.maximum.at(nearest, (y, column + 1), d)
    around = np.maximum.reduce([nearest[y, column + i] for i in range(3)])
    visible = np.zeros((height, width), bool)
    visible[y, x] = d >= around - 1.5
    return visible


def interest_points(photograph: np.ndarray, allowed: np.ndarray, count: int) -> np.ndarray:
    """Find the strongest corners (N, 2) of a photograph where `allowed`, at least 10 pixels apart."""
    strength = feature.corner_shi_tomasi(color.rgb2gray(photograph), sigma=2)
    corners = feature.corner_peaks(
        np.where(allowed, strength, 0), min_distance=10, threshold_rel=0.005, exclude_border=12, num_peaks=count
    )
    return corners[:, ::-1].astype(float)


def crop(photograph: np.ndarray) -> np.ndarray:
    """Crop the centre, with sides of 32 k + 1 pixels; see `PhotographFeatures`."""
    (height, width) = ((side - 1) // 32 * 32 + 1 for side in photograph.shape[:2])
    top, left = (photograph.shape[0] - height) // 2, (photograph.shape[1] - width) // 2
    return photograph[top : top + height, left : left + width]
