"""Pictures and masks in the one form that everything else takes: RGB in sRGB, boolean arrays, tensors in [0, 1]."""

from ctxrep_edit.imaging.arrays import aspect, brought_down, luma, on_white, to_picture, to_tensor, to_tensors
from ctxrep_edit.imaging.colour import BrokenColourProfile
from ctxrep_edit.imaging.exif import exif_with
from ctxrep_edit.imaging.masks import mask_picture, read_mask, shrink_mask
from ctxrep_edit.imaging.reading import (
    LONGEST_ASPECT,
    MIN_SIDE,
    ImageLike,
    Source,
    check_aspect,
    read_image,
    read_references,
    read_source,
)

__all__ = [
    "LONGEST_ASPECT",
    "MIN_SIDE",
    "BrokenColourProfile",
    "ImageLike",
    "Source",
    "aspect",
    "brought_down",
    "check_aspect",
    "exif_with",
    "luma",
    "mask_picture",
    "on_white",
    "read_image",
    "read_mask",
    "read_references",
    "read_source",
    "shrink_mask",
    "to_picture",
    "to_tensor",
    "to_tensors",
]
