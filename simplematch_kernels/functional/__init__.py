"""The public functions: argument checks, then one operator.

Coordinates are (x, y) throughout. Maps are (B, C, H, W); a cell's flat index is m = y * W + x. The checks turn tokens
(B, H*W, C) into views of that form, so that operators and kernels know maps only.
"""
