"""What the datasets made of ImageNet have in common."""

from data_prep.images import Decoding

IMAGE_SIZE = 84

# Photographs of another size are squeezed to squares, as those who made the sets have done.
PHOTOGRAPHS = Decoding(size=IMAGE_SIZE, channels=3, formats=("JPEG", "PNG"), native=None, fit="stretch")
SUFFIXES = (".jpg", ".jpeg", ".png")
