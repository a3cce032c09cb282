"""Images of a store in another size."""

import numpy as np
from PIL import Image

from data_prep.store.format import Images


def resized(images: Images, size: int, channels: int) -> Images:
    """Return images uint8 (N, H, W, C) as (N, size, size, channels), antialiased.

    Three channels become one by their brightness; one becomes three that are equal. Images that
    are so already are returned as they are.
    """
    if images.shape[1:] == (size, size, channels):
        return images
    mode = "L" if channels == 1 else "RGB"
    result = np.empty((len(images), size, size, channels), np.uint8)
    for image, target in zip(images, result, strict=True):
        shown = picture(image).convert(mode).resize((size, size), Image.Resampling.LANCZOS)
        target[:] = np.asarray(shown).reshape(target.shape)
    return result


def picture(pixels: Images) -> Image.Image:
    """Return an image uint8 (H, W, 1 or 3) as Pillow has it, grey or RGB."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
