"""The arguments of `timm.create_model` that a configuration may set: only those that shape layers.

A configuration can come from an untrusted source. timm's other arguments load files (`checkpoint_path`,
`pretrained_cfg_overlay`), set folders (`cache_dir`) or use the hub (`pretrained`).
"""

from __future__ import annotations

from typing import Any

_VIT = (
    "class_token", "depth", "dynamic_img_pad", "dynamic_img_size", "embed_dim", "embed_dims", "global_attn_indexes",
    "img_size", "init_values", "mlp_ratio", "mlp_ratios", "no_embed_class", "num_blocks", "num_heads", "patch_size",
    "pos_embed", "pre_norm", "proj_bias", "qk_norm", "qkv_bias", "reg_tokens", "stages", "strict_img_size",
    "window_size",
)  # fmt: skip
_CONVOLUTIONAL = (
    "avg_down", "base_width", "block_reduce_first", "cardinality", "channel_multiplier", "channels", "depths", "dims",
    "down_kernel_size", "fix_stem", "kernel_sizes", "layers", "ls_init_value", "out_indices", "output_stride",
    "pad_type", "replace_stem_pool", "stem_size", "stem_type", "stem_width", "zero_init_last",
)  # fmt: skip
_REGULARISATION = (
    "attn_drop_rate", "drop_block_rate", "drop_path_rate", "drop_rate", "patch_drop_rate", "pos_drop_rate",
    "proj_drop_rate",
)  # fmt: skip
_LAYERS = ("act_layer", "norm_layer")
ENCODER_OPTIONS = tuple(sorted((*_VIT, *_CONVOLUTIONAL, *_REGULARISATION, *_LAYERS)))


def check_encoder_options(options: dict[str, Any]) -> None:
    """Check that options have names of ENCODER_OPTIONS, and plain values or lists of them.

    Raises:
        ValueError: an option has another name or value.
    """
    for name, value in options.items():
        if name not in ENCODER_OPTIONS:
            raise ValueError(
                f"encoder_options must not have {name!r}: only options that shape the encoder's layers are allowed: "
                f"{', '.join(ENCODER_OPTIONS)}"
            )
        if not _is_plain(value):
            raise ValueError(
                f"encoder_options must hold numbers, strings, true, false, null and lists of them, got {name!r}: "
                f"{str(value)[:60]}"
            )


def _is_plain(value: object, depth: int = 2) -> bool:
    if isinstance(value, list):
        return depth > 0 and all(_is_plain(x, depth - 1) for x in value)
    return value is None or isinstance(value, bool | int | float | str)
