"""Check whether maps follow the tumour or stay at its usual place: take the tumour away, or put it elsewhere.

On unseen patients. A map that shows what the network recognises leaves the place when the tumour does
(`mri.data.counterfactuals`), and finds it in another head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mri.base.intervals import Estimate, estimate, estimate_difference, resample_weights
from mri.data.counterfactuals import choose_shift, paste_lesion, remove_lesion
from mri.data.dataset import Dataset
from mri.explanation.maps import explain
from mri.explanation.sampling import calls_a_tumour, choose_tumour_free
from mri.explanation.scores import chance, localisation, mass_accuracy, pointing_game
from mri.inference.runtime import softmax
from mri.networks.models import Classifier
from mri.networks.predict import predict_logits, to_tensor

PLACE_IS_CLASS = {"pituitary"}  # elsewhere such a tumour would be another one
DISTANCE = 0.2  # of the side, that a pasted tumour moves at least


@dataclass(frozen=True)
class Changed:
    """N images of tumours, each before and after the tumour was removed, or pasted into another head.

    images: rows of the index, of the tumours. before, after: uint8 (N, S, S). old, new: bool (N, S, S), the tumour's
    place before and, pasted, after (where it was removed, both are the same).
    """

    images: pd.DataFrame
    before: np.ndarray
    after: np.ndarray
    old: np.ndarray
    new: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, where: np.ndarray | slice) -> Changed:
        arrays = (array[where] for array in (self.before, self.after, self.old, self.new))
        return Changed(self.images.iloc[where], *arrays)


def remove_tumours(data: Dataset, images: pd.DataFrame) -> Changed:
    """Return those of the masked images whose tumour could be replaced by the mirrored healthy side."""
    pixels, masks = data.pixels[images["row"].to_numpy()], data.masks_of(images)
    removed = [remove_lesion(_grey(image), mask) for image, mask in zip(pixels, masks, strict=True)]
    done = np.flatnonzero([image is not None for image in removed])
    after = _stack([image for image in removed if image is not None], pixels)
    return Changed(images.iloc[done], pixels[done], after, masks[done], masks[done])


def paste_tumours(data: Dataset, images: pd.DataFrame, emptied: Changed, seed: int) -> Changed:
    """Return the masked images' tumours in other heads, at other places; not those whose place is their class.

    Heads are test images without a tumour, and emptied ones of other patients.
    """
    donors = images[~images["label"].isin(PLACE_IS_CLASS)]
    rng = np.random.default_rng(seed)
    free = choose_tumour_free(data, len(donors), seed)
    heads = np.concatenate([data.pixels[free["row"].to_numpy(int)], emptied.after])
    owners = np.array([*free["group"], *emptied.images["group"]], str)
    done, pasted, places = [], [], []
    for i, (row, mask) in enumerate(zip(donors.itertuples(), data.masks_of(donors), strict=True)):
        others = np.flatnonzero(owners != str(row.group))
        if not len(others) or not mask.any():
            continue
        head = _grey(heads[rng.choice(others)])
        shift = choose_shift(head, mask, rng, DISTANCE)
        if shift is None:
            continue
        image, place = paste_lesion(head, _grey(data.pixels[row.row]), mask, shift)
        done.append(i)
        pasted.append(image)
        places.append(place)
    before = data.pixels[donors["row"].to_numpy(int)[done]]
    new = np.array(places, bool).reshape(before.shape)
    return Changed(donors.iloc[done], before, _stack(pasted, before), data.masks_of(donors)[done], new)


def score_following(
    model: Classifier, data: Dataset, removed: Changed, pasted: Changed, resamples: int, seed: int
) -> dict[str, Any]:
    """Return {"removed": ..., "pasted": ...}, each {"n": 0} where no image could be changed."""
    return {
        "removed": _score_removed(model, data, removed, resamples, seed),
        "pasted": _score_pasted(model, data, pasted, resamples, seed),
    }


def _score_removed(model: Classifier, data: Dataset, changed: Changed, resamples: int, seed: int) -> dict[str, Any]:
    """Score Grad-CAM of the class that was called before, on images that were called a tumour.

    mass_before, mass_after: the share of its mass in the place; mass_left_by: the difference. class_changes,
    called_tumour_free: shares of the images. probability_before, probability_after: of that class, uncalibrated.
    """
    changed = changed[_called_tumour(model, data, changed)]
    if not len(changed):
        return {"n": 0}
    before, after = (_probabilities(model, pixels) for pixels in (changed.before, changed.after))
    called, now = before.argmax(1), after.argmax(1)
    mass = [mass_accuracy(gradcam(model, pixels, called), changed.old) for pixels in (changed.before, changed.after)]
    weights = resample_weights(changed.images["group"], resamples, seed)
    row = np.arange(len(changed))
    shares = {
        "mass_before": mass[0],
        "mass_after": mass[1],
        "class_changes": (now != called).astype(float),
        "called_tumour_free": (~calls_a_tumour(data.classes, now)).astype(float),
        "probability_before": before[row, called],
        "probability_after": after[row, called],
    }
    return {
        **_counts(changed),
        "chance": float(changed.old.mean()),
        **{name: _estimate(values, weights, changed) for name, values in shares.items()},
        "mass_left_by": estimate_difference(mass[0], mass[1], weights),
    }


def _score_pasted(model: Classifier, data: Dataset, changed: Changed, resamples: int, seed: int) -> dict[str, Any]:
    """Score Grad-CAM of the pasted tumour's class.

    pointing_game, pointing_near, rma: as for real images, each with its chance. pointing_old: how often the peak lies
    where the tumour was in its own head. called: how often its class is called; called_tumour_free.
    """
    if not len(changed):
        return {"n": 0}
    target = changed.images["label"].map(data.classes.index).to_numpy(int)
    now = _probabilities(model, changed.after).argmax(1)
    maps = gradcam(model, changed.after, target)
    scores, by_chance = localisation(maps, changed.new), chance(changed.new)
    weights = resample_weights(changed.images["group"], resamples, seed)
    old = changed.old & ~changed.new
    shares = {
        "pointing_old": np.nan_to_num(pointing_game(maps, old)),
        "called": (now == target).astype(float),
        "called_tumour_free": (~calls_a_tumour(data.classes, now)).astype(float),
    }
    return {
        **_counts(changed),
        **{
            name: {
                **_estimate(scores[name], weights, changed),
                "chance": float(by_chance[name].mean()),
                "over_chance": estimate_difference(scores[name], by_chance[name], weights),
            }
            for name in ("pointing_game", "pointing_near", "rma")
        },
        **{name: _estimate(values, weights, changed) for name, values in shares.items()},
        "over_old": estimate_difference(scores["pointing_game"], shares["pointing_old"], weights),
    }


def gradcam(model: Classifier, pixels: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return Grad-CAM of one class per image, float32 (N, S, S), of uint8 (N, S, S)."""
    return explain(model, to_tensor(pixels), target)


def _called_tumour(model: Classifier, data: Dataset, changed: Changed) -> np.ndarray:
    if not len(changed):
        return np.zeros(0, int)
    return np.flatnonzero(calls_a_tumour(data.classes, _probabilities(model, changed.before).argmax(1)))


def _probabilities(model: Classifier, pixels: np.ndarray) -> np.ndarray:
    return softmax(predict_logits(model, pixels))


def _estimate(values: np.ndarray, weights: np.ndarray, changed: Changed) -> Estimate:
    """Return {value, low, high} of a mean; where all images are 0, or all 1, by the number of groups."""
    samples = weights @ values / weights.sum(axis=1)
    return estimate(float(values.mean()), samples, groups=_counts(changed)["groups"])


def _counts(changed: Changed) -> dict[str, int]:
    return {"n": len(changed), "groups": changed.images["group"].nunique()}


def _grey(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 255


def _stack(images: list[np.ndarray], like: np.ndarray) -> np.ndarray:
    """Return uint8 (N, S, S) of images in [0, 1]; S as in `like` where there are none."""
    return np.rint(255 * np.array(images, np.float32)).astype(np.uint8).reshape(-1, *like.shape[1:])
