"""Training images that never were: a tumour taken out, or put into another head, with the label that follows.

When tumours of one class come from one scanner, and heads without a tumour from elsewhere, the background tells the
class. Here the same background occurs with a tumour, without one, and with another one (CarveMix, Zhang et al. 2021;
TumorCP, Yang et al. 2021), so that only the tumour is left to learn from.
"""

from __future__ import annotations

import numpy as np

from mri.data.counterfactuals import choose_shift, paste_lesion, remove_lesion
from mri.data.dataset import TUMOUR_FREE, Part

# Its place, the sella, is part of what it is: elsewhere it would be another tumour.
PLACED = "pituitary"


class Counterfactuals:
    """Changes a share of training images; the others pass unchanged."""

    def __init__(self, part: Part, outlines: np.ndarray, share: float):
        """Prepare for the images of `part`, whose outlines are bool (N, S, S), empty where there is none."""
        self.part, self.outlines, self.share = part, outlines, share
        names = part.index["label"].to_numpy(str)
        self.tumour_free = int(part.labels[names == TUMOUR_FREE][0]) if (names == TUMOUR_FREE).any() else None
        self.outlined = np.asarray(outlines.any(axis=(1, 2)) if share else np.zeros(len(part), bool))
        self.donors = np.flatnonzero(self.outlined & (names != PLACED))

    def apply(self, rows: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return images, uint8 (B, S, S), outlines, uint8 (B, S, S) of 0 and 255, and classes, int64 (B,).

        rows: int (B,), the positions of the images in the part.
        """
        images, classes = self.part.pixels[rows].copy(), self.part.labels[rows].copy()
        outlines = self.outlines[rows].astype(np.uint8) * 255
        if self.tumour_free is not None and len(self.donors):
            for i in np.flatnonzero(random.random(len(rows)) < self.share):
                if (changed := self._changed(rows[i], random)) is not None:
                    image, outline, classes[i] = changed
                    images[i], outlines[i] = np.rint(image * 255), outline * 255
        return images, outlines, classes

    def _changed(self, row: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int] | None:
        """Return an image in [0, 1], its outline and its class; None where nothing can be changed."""
        assert self.tumour_free is not None
        image = self.part.pixels[row].astype(np.float32) / 255
        if self.outlined[row]:
            emptied = remove_lesion(image, self.outlines[row])
            if emptied is None:
                return None
            image = emptied
            if random.random() < 0.5:
                return image, np.zeros(image.shape, bool), self.tumour_free
        elif self.part.labels[row] != self.tumour_free:
            return None
        return self._with_tumour(image, random)

    def _with_tumour(self, image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int] | None:
        donor = random.choice(self.donors)
        shift = choose_shift(image, self.outlines[donor], random)
        if shift is None:
            return None
        tumour = self.part.pixels[donor].astype(np.float32) / 255
        return *paste_lesion(image, tumour, self.outlines[donor], shift), int(self.part.labels[donor])
