"""Data sets of image pairs, their transforms and batches.

`open_dataset` opens a data set. `TransformedPairs` with `collate`, or `ImageGroups` with `collate_groups`, feed a
`DataLoader`.
"""

from .._files import DataError
from .ap10k import AP10K
from .batch import PairBatch, SkippedPairs, TransformedPairs, collate, pad_keypoints
from .copies import CopiedGroups, CopiedPairs, ImageCopies
from .dataset import PairDataset
from .groups import GroupBatch, ImageGroups, collate_groups, pair_visibility
from .images import ImageError, ImageWarning
from .open import open_dataset, recognise
from .pf_pascal import PFPascal
from .pf_willow import PFWillow
from .prepare import prepare_ap10k
from .records import ImageInfo, PairInfo, PairSample
from .spair import SPair
from .symmetry import Symmetry, symmetry_of
from .table import PairTable
from .transforms import NetworkSample, PairTransform
from .warps import WarpedImages

__all__ = [
    "AP10K",
    "CopiedGroups",
    "CopiedPairs",
    "DataError",
    "GroupBatch",
    "ImageCopies",
    "ImageError",
    "ImageGroups",
    "ImageInfo",
    "ImageWarning",
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
    "Symmetry",
    "TransformedPairs",
    "WarpedImages",
    "collate",
    "collate_groups",
    "open_dataset",
    "pad_keypoints",
    "pair_visibility",
    "prepare_ap10k",
    "recognise",
    "symmetry_of",
]
