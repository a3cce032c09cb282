"""How pictures outside any store are made to match its images: in the way that `prepare` made those."""

from dataclasses import dataclass
from typing import cast

from data_prep.errors import DataError
from data_prep.fitting import FITS, FORMATS, Fit
from data_prep.images import Decoding
from data_prep.sources import canonical_name, find_source, is_dataset
from data_prep.store import Store


@dataclass(frozen=True)
class Preparation:
    """Side and channels of the images, how they are made square, and whether dark ink becomes 255 on 0."""

    image_size: int
    channels: int
    fit: Fit
    inverted: bool

    @classmethod
    def of(cls, store: Store) -> "Preparation":
        """What was done to the images of a store; one of an earlier version only tells by its dataset."""
        fit, inverted = (store.attributes.get(key) for key in ("fit", "inverted"))
        if fit is None or inverted is None:
            known = find_source(canonical_name(store.dataset) if is_dataset(store.dataset) else "folder")
            return cls(store.image_size, store.channels, known.fit, known.inverted)
        if fit not in FITS or inverted not in ("yes", "no"):
            raise DataError(
                f"{store.path}: the attribute 'fit' or 'inverted' has an unknown value; "
                "prepare it again with --force."
            )
        return cls(store.image_size, store.channels, cast(Fit, fit), inverted == "yes")

    @property
    def decoding(self) -> Decoding:
        """How to decode any picture so."""
        return Decoding(
            self.image_size, self.channels, FORMATS, native=None, invert=self.inverted, fit=self.fit
        )
