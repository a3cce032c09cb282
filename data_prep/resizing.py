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
        picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert(mode)
        target[:] = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS)).reshape(target.shape)
    return result
