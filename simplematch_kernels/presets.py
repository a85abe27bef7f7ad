"""Options that reproduce the matching of published code, one function for each codebase.

A preset returns a new dictionary of keyword arguments for the function that its docstring names first:

    smk.sparse_window_match(source, target, keypoints, source_size=(H, W), target_size=(H, W), **smk.presets.marco())
    smk.localize(scores, **smk.presets.tapir(target_size=(H, W)))

Keyword arguments of a preset replace its options or add others, so sizes of images may be given in either place. The
functions of `simplematch_kernels.numpy` take the same dictionaries. docs/presets.md has them all in one table.
"""

from __future__ import annotations

from typing import Any, Literal, Unpack, overload

from ._check_options import check_choice
from ._preset_options import (
    COSINE_OF_CELLS,
    UPSAMPLED,
    DescriptorPreset,
    LocalizePreset,
    MatchAllPreset,
    MatchPreset,
    changed,
    of_sd4match,
)

__all__ = [
    "cats",
    "chm",
    "dift",
    "geoaware",
    "hyperfeatures",
    "kornia",
    "lightglue",
    "loftr_fine",
    "marco",
    "mast3r",
    "sd4match",
    "sd_dino",
    "semantic_correspondence",
    "simplematch",
    "tapir",
    "xfeat",
]


def simplematch(**changes: Unpack[MatchPreset]) -> MatchPreset:
    """`sparse_window_match` as hailong23-jin/SimpleMatch: src/models/semantic_correspondence/task.py, compute_trg_kps.

    A window of 45 cells, moved inside the map; maps smaller than the window are covered by it. Outside: its linear
    layer `proj` of the sampled descriptors; apply it to the source map, which gives the same.
    """
    options: MatchPreset = {
        **COSINE_OF_CELLS,
        "localization": "window",
        "window_size": 45,
        "border": "shift",
        "temperature": 0.02,
    }
    return changed("simplematch", MatchPreset, options, changes)


def sd4match(mode: str, **changes: Unpack[MatchPreset]) -> MatchPreset:
    """`sparse_window_match` as ActiveVisionLab/SD4Match: utils/matching.py, *_get_matches, by utils/evaluator.py.

    Args:
        mode: "nn", "bilinear" (the matches of four cells are blended), "softargmax" or "kernelsoftargmax".
        changes: keyword arguments of `sparse_window_match`; its sizes of images are those of the network's input.

    Outside: ENABLE_L2_NORM=False, which is metric="dot". Its training loss is `sparse_match_cross_entropy`.
    """
    return changed("sd4match", MatchPreset, of_sd4match(mode), changes)


def semantic_correspondence(mode: str, **changes: Unpack[MatchPreset]) -> MatchPreset:
    """`sparse_window_match` as Visual-AI/Semantic-Correspondence: utils/matching.py, *_get_matches.

    Its functions and their settings (config/base.py: SOFTMAX_TEMP 0.04, KERNELSOFTMAX_SIGMA 7) are those of `sd4match`,
    with the same modes. It trains at temperature=0.03, by `sparse_match_cross_entropy`.
    """
    return changed("semantic_correspondence", MatchPreset, of_sd4match(mode), changes)


def geoaware(mode: str, **changes: Unpack[MatchPreset]) -> MatchPreset:
    """`sparse_window_match` as Junyi42/GeoAware-SC: utils/utils_correspondence.py, calculate_keypoint_transformation.

    Args:
        mode: "argmax" (without SOFT_EVAL), "window" (SOFT_EVAL_WINDOW=7: a window of 15 cells; the others count as
            zeros, as after a mask), "global" (0), or "gaussian" (-5: sigma=5).
        changes: keyword arguments of `sparse_window_match`.

    `output_offset` is half a stride, rounded down: 7 pixels for its 60 x 60 cells of 840 x 840 pixels; for others, pass
    output_offset=side / cells // 2. It trains through model_utils/corr_map_model.py, Correlation2Displacement: the same
    soft modes, in cells: output_offset=0.0 without sizes. Outside: flipped images, and the separate norms of DUMMY_NET.
    """
    check_choice("mode", mode, ("argmax", "window", "global", "gaussian"))
    options: MatchPreset = {**COSINE_OF_CELLS, "eps": 1e-10, "output_offset": 7.0, "localization": mode}
    if mode != "argmax":
        options["temperature"] = 0.02
    if mode == "window":
        options |= {"window_size": 15, "border": "shrink", "outside_value": 0.0}
    if mode == "gaussian":
        options["sigma"] = 5.0
    return changed("geoaware", MatchPreset, options, changes)


def marco(**changes: Unpack[MatchPreset]) -> MatchPreset:
    """`sparse_window_match` as visinf/MARCO: models/marco.py, sample_descriptors_w_sim and predict_from_logits.

    Products, not cosines, at temperature 10 (configs/model/marco.yaml). Points become cells by the corners of the image
    and matches become points by the centres of corner pixels, as there. Outside: the rescaling to the original image.
    With localization="global" it is the match of SoftArgmaxL2Loss in util/losses.py; its GaussianCrossEntropyLoss is
    `sparse_match_cross_entropy`.
    """
    options: MatchPreset = {
        "source_coords": "corner",
        "target_coords": "align_corners",
        "sampling": "bilinear",
        "sampling_padding": "border",
        "metric": "dot",
        "localization": "gaussian",
        "sigma": 7.0,
        "temperature": 10.0,
    }
    return changed("marco", MatchPreset, options, changes)


def sd_dino(**changes: Unpack[MatchPreset]) -> MatchPreset:
    """`sparse_window_match` as Junyi42/sd-dino: pck_spair_pascal.py, compute_pck.

    --DIST l2, its default, with DINOv2: cells of 14 pixels, whose centres are the matches. metric="cosine" is --DIST
    cos, metric="l1" is l1. Outside: for l1 and l2, both features are divided by their norms before they are
    concatenated (for l1_norm and l2_norm, afterwards too), and scores are -|q - f|^2 and lack the 1e-6 that torch's
    PairwiseDistance adds to a difference. DINOv1 with a stride below its patch has other offsets.
    """
    options: MatchPreset = {
        **COSINE_OF_CELLS,
        "target_coords": "half_pixel",
        "metric": "l2",
        "eps_mode": "clamp",
        "localization": "argmax",
    }
    return changed("sd_dino", MatchPreset, options, changes)


def dift(**changes: Unpack[MatchPreset]) -> MatchPreset:
    """`sparse_window_match` as Tsingularity/dift: eval_spair.py, main.

    Both maps are read as if upsampled to their images, and the best pixel is the match: `source_size` and `upsample`
    must be given, (height, width) of the source and of the target image. One target size a call, so one pair a call.
    Keypoints are whole pixels there; others are interpolated here.
    """
    if changes.get("source_size") is None or changes.get("upsample") is None:
        raise TypeError(
            "dift() needs source_size and upsample, (height, width) of the source and of the target image in pixels, "
            "to which it upsamples both maps"
        )
    return changed("dift", MatchPreset, UPSAMPLED, changes)


@overload
def hyperfeatures(
    mode: Literal["find_nn_source_correspondences"] = "find_nn_source_correspondences", **changes: Unpack[MatchPreset]
) -> MatchPreset: ...
@overload
def hyperfeatures(mode: Literal["compute_clip_loss"], **changes: Unpack[MatchAllPreset]) -> MatchAllPreset: ...
def hyperfeatures(mode: str = "find_nn_source_correspondences", **changes: Any) -> MatchPreset | MatchAllPreset:
    """`sparse_window_match` as diffusion-hyperfeatures/diffusion_hyperfeatures: archs/correspondence_utils.py.

    Args:
        mode: "find_nn_source_correspondences": both maps are upsampled to load_resolution, 512 x 512 in
            configs/train.yaml (`upsample` changes it for both; the paper tests at 224 x 224), and the best pixel is the
            match, in pixels of `target_size` as by rescale_points, or of the upsampled map. "compute_clip_loss" of
            train_hyperfeatures.py, for `match_all` of both maps: the mean of log_sum_exp - s / T of the true pairs,
            averaged over both sides, at T = 0.07.
        changes: keyword arguments of `sparse_window_match` or `match_all`.

    Outside: points, (y, x) there, are clipped and rounded to pixels before: keypoints.round().clamp(0, 511).
    """
    check_choice("mode", mode, ("find_nn_source_correspondences", "compute_clip_loss"))
    if mode == "compute_clip_loss":
        training: MatchAllPreset = {"metric": "cosine", "eps": 0.0, "temperature": 0.07}
        return changed("hyperfeatures", MatchAllPreset, training, changes)
    size = changes.get("upsample", (512, 512))
    options: MatchPreset = {**UPSAMPLED, "eps": 0.0, "target_coords": "corner", "source_size": size, "upsample": size}
    return changed("hyperfeatures", MatchPreset, options, changes)


def cats(**changes: Unpack[LocalizePreset]) -> LocalizePreset:
    """`localize` as SunghwanHong/Cost-Aggregation-transformers: models/cats.py, CATs.soft_argmax.

    Scores are its refined correlation (B, T, h, w), of target cells T and source cells h x w, as
    corr.flatten(2).mT.unflatten(2, (h, w)); results are cells, before the source's own cell is subtracted for a flow.
    Outside: the aggregator, and the soft mutual filter before it.
    """
    options: LocalizePreset = {"localization": "global", "temperature": 0.02}
    return changed("cats", LocalizePreset, options, changes)


def chm(**changes: Unpack[LocalizePreset]) -> LocalizePreset:
    """`localize` as juhongm999/chm: model/base/geometry.py, Geometry.transfer_kps.

    Scores are its correlation (B, S, T) of source and target cells, as maps (B, S, h, w). target_size=(241, 241) gives
    pixels of its 240 x 240 images, whose borders are 0 and 240 there. Outside: a keypoint's match is the mean of the
    matches of the source cells near it, with the weights of Geometry.attentive_indexing.
    """
    options: LocalizePreset = {
        "localization": "gaussian",
        "sigma": 17.0,
        "temperature": 1.0,
        "target_coords": "align_corners",
    }
    return changed("chm", LocalizePreset, options, changes)


def tapir(**changes: Unpack[LocalizePreset]) -> LocalizePreset:
    """`localize` as google-deepmind/tapnet: tapnet/torch/utils.py, heatmaps_to_points, for TAPIR and its successors.

    Scores are the logits of tracks_from_cost_volume (tapnet/torch/tapir_model.py), before its softmax with
    softmax_temperature=20: the mean over the cells less than 5 cells from the best one, whose centres are at halves, in
    pixels of `target_size` or in cells. Outside: frames of the query, where it returns the query point.
    """
    options: LocalizePreset = {
        "localization": "window",
        "window_size": 10,
        "window_shape": "disc",
        "border": "shrink",
        "temperature": 0.05,
        "target_coords": "half_pixel",
        "output_offset": 0.5,
    }
    return changed("tapir", LocalizePreset, options, changes)


def loftr_fine(**changes: Unpack[DescriptorPreset]) -> DescriptorPreset:
    """`match_descriptors` as zju3dv/LoFTR: src/loftr/utils/fine_matching.py, FineMatching.forward.

    For M matches: descriptors (M, 1, C) are feat_f0[:, WW // 2, None], the target (M, WW, C) is feat_f1, 5 x 5 tokens
    of 128 channels by src/config/default.py; others: target_shape=(W, W), temperature=C ** 0.5. Keypoints are
    coords_normalized, from -1 to 1; expec_f has them and the standard deviation,
    covariance.diagonal(dim1=-2, dim2=-1).clamp(min=1e-10).sqrt().sum(-1). Outside: mkpts1_f = mkpts1_c + keypoints *
    (W // 2) * scale1.
    """
    options: DescriptorPreset = {
        "layout": "tokens",
        "target_shape": (5, 5),
        "metric": "dot",
        "localization": "global",
        "temperature": 128**0.5,
        "return_covariance": True,
        "target_size": (3, 3),  # with the next two, from -1 to 1: pixels 0, 1 and 2, less one
        "target_coords": "align_corners",
        "output_offset": -1.0,
    }
    return changed("loftr_fine", DescriptorPreset, options, changes)


@overload
def xfeat(
    mode: Literal["match", "dual_softmax_loss"] = "match", **changes: Unpack[MatchAllPreset]
) -> MatchAllPreset: ...
@overload
def xfeat(mode: Literal["subpix_softmax2d"], **changes: Unpack[LocalizePreset]) -> LocalizePreset: ...
def xfeat(mode: str = "match", **changes: Any) -> MatchAllPreset | LocalizePreset:
    """`match_all` as verlab/accelerated_features: modules/xfeat.py and modules/training/losses.py.

    Args:
        mode: "match", also batch_match: the pairs where `mutual`; its min_cossim keeps those with score_a above it.
            "dual_softmax_loss": the mean of log_sum_exp - s / 5 of the true pairs, summed over both sides.
            "subpix_softmax2d", for `localize`: 8 x 8 logits as maps (1, N, 8, 8), results from their cell (4, 4).
        changes: keyword arguments of `match_all` or `localize`.

    Outside: descriptors are normalised before, and refine_matches multiplies the offsets by the scale of a keypoint.
    """
    check_choice("mode", mode, ("match", "dual_softmax_loss", "subpix_softmax2d"))
    if mode == "subpix_softmax2d":
        refining: LocalizePreset = {"localization": "global", "temperature": 1 / 3, "output_offset": -4.0}
        return changed("xfeat", LocalizePreset, refining, changes)
    options: MatchAllPreset = {"metric": "dot", "return_log_sum_exp": mode == "dual_softmax_loss"}
    if mode == "dual_softmax_loss":
        options["temperature"] = 5.0
    return changed("xfeat", MatchAllPreset, options, changes)


def lightglue(**changes: Unpack[MatchAllPreset]) -> MatchAllPreset:
    """`match_all` as cvg/LightGlue: lightglue/lightglue.py, MatchAssignment and filter_matches.

    Descriptors are those after `final_proj`, of 256 channels; others: temperature=C ** 0.5. With s the products and z
    the outputs of `matchability`, its log assignment is

        2 s[n,m] / T - log_sum_exp_a[n] + logsigmoid(z_a[n]) - log_sum_exp_b[m] + logsigmoid(z_b[m])

    Outside: its matches are the best of these, not of s; docs/presets.md finds them by a second `match_all`.
    """
    options: MatchAllPreset = {"metric": "dot", "temperature": 16.0}
    return changed("lightglue", MatchAllPreset, options, changes)


def mast3r(
    mode: Literal["bruteforce_reciprocal_nns", "InfoNCE"] = "bruteforce_reciprocal_nns",
    **changes: Unpack[MatchAllPreset],
) -> MatchAllPreset:
    """`match_all` as naver/mast3r: mast3r/fast_nn.py and mast3r/losses.py.

    Args:
        mode: "bruteforce_reciprocal_nns" with dist="dot", as its demos and visloc.py call it (metric="l2" for "l2"):
            nn_A is index_a, nn_B is index_b. "InfoNCE" with mode="proper" and temperature 0.05, as its README trains:
            log_sum_exp_a + log_sum_exp_b - 2 s / T of the true pairs.
        changes: keyword arguments of `match_all`.

    Outside: fast_reciprocal_NNs, which goes from a grid of cells to and fro by these indices, the thresholds, and the
    probabilities below 1e-8 that the loss clips.
    """
    check_choice("mode", mode, ("bruteforce_reciprocal_nns", "InfoNCE"))
    options: MatchAllPreset = {"metric": "dot", "return_log_sum_exp": mode == "InfoNCE"}
    if mode == "InfoNCE":
        options["temperature"] = 0.05
    return changed("mast3r", MatchAllPreset, options, changes)


@overload
def kornia(
    mode: Literal["match_nn", "match_mnn", "match_snn", "match_smnn"] = "match_mnn", **changes: Unpack[MatchAllPreset]
) -> MatchAllPreset: ...
@overload
def kornia(
    mode: Literal["spatial_soft_argmax2d", "spatial_expectation2d"], **changes: Unpack[LocalizePreset]
) -> LocalizePreset: ...
def kornia(mode: str = "match_mnn", **changes: Any) -> MatchAllPreset | LocalizePreset:
    """`match_all` or `localize` as kornia/kornia: kornia/feature/matching.py, kornia/geometry/subpix.

    Args:
        mode: for `match_all`: "match_nn", "match_mnn" (where `mutual`), "match_snn" and "match_smnn" (where the ratio
            (score_a / second_a).sqrt() is at most th, and that of b too). A distance is (-score_a).sqrt().
            For `localize`: "spatial_soft_argmax2d", and "spatial_expectation2d" of maps that sum to one. Results are
            normalised, from -1 to 1; target_size=None, output_offset=0.0 gives cells.
        changes: keyword arguments of `match_all` or `localize`.

    `temperature` divides, as kornia's does since 0.9.0; before, it multiplied. Outside: match_fginn, match_adalam, and
    the expectation of maps with another sum, which kornia doesn't divide by it; nor is its gradient by a map, which
    leaves the sum free, that of the quotient (they are equal behind a softmax).
    """
    matching = ("match_nn", "match_mnn", "match_snn", "match_smnn")
    check_choice("mode", mode, (*matching, "spatial_soft_argmax2d", "spatial_expectation2d"))
    if mode in matching:
        ratios = mode in ("match_snn", "match_smnn")
        options: MatchAllPreset = {"metric": "l2", "return_log_sum_exp": False, "return_second": ratios}
        return changed("kornia", MatchAllPreset, options, changes)
    averaging: LocalizePreset = {
        "localization": "global",
        "target_size": (3, 3),  # with the next two, from -1 to 1: pixels 0, 1 and 2, less one
        "target_coords": "align_corners",
        "output_offset": -1.0,
    }
    if mode == "spatial_soft_argmax2d":
        averaging["temperature"] = 1.0
    else:
        averaging["normalization"] = "sum"
    return changed("kornia", LocalizePreset, averaging, changes)
