"""Pictures and masks in the one form that everything else takes: RGB, boolean arrays, tensors in [0, 1]."""

from ctxrep_edit.imaging.arrays import brought_down, luma, to_tensor
from ctxrep_edit.imaging.masks import mask_picture, read_mask, shrink_mask
from ctxrep_edit.imaging.reading import LONGEST_ASPECT, MIN_SIDE, ImageLike, check_aspect, read_image

__all__ = [
    "LONGEST_ASPECT",
    "MIN_SIDE",
    "ImageLike",
    "brought_down",
    "check_aspect",
    "luma",
    "mask_picture",
    "read_image",
    "read_mask",
    "shrink_mask",
    "to_tensor",
]
