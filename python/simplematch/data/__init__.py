"""Data sets of image pairs, their transforms and batches.

`open_dataset` opens one, `TransformedPairs` and `collate` feed a `DataLoader`.
"""

from .ap10k import AP10K
from .batch import PairBatch, SkippedPairs, TransformedPairs, collate, pad_keypoints
from .dataset import PairDataset
from .files import DataError, ImageError
from .open import open_dataset, recognise
from .pf_pascal import PFPascal
from .pf_willow import PFWillow
from .prepare import prepare_ap10k
from .records import ImageInfo, PairInfo, PairSample
from .spair import SPair
from .table import PairTable
from .transforms import NetworkSample, PairTransform, training_transform
from .warps import WarpedImages

__all__ = [
    "AP10K",
    "DataError",
    "ImageError",
    "ImageInfo",
    "NetworkSample",
    "PFPascal",
    "PFWillow",
    "PairBatch",
    "PairDataset",
    "PairInfo",
    "PairSample",
    "PairTable",
    "PairTransform",
    "SPair",
    "SkippedPairs",
    "TransformedPairs",
    "WarpedImages",
    "collate",
    "open_dataset",
    "pad_keypoints",
    "prepare_ap10k",
    "recognise",
    "training_transform",
]
