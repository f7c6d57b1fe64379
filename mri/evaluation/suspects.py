"""List images that look mislabelled or out of place, for a person to look at; nothing is removed.

- label: a classifier trained without the image and its relatives contradicts the label (confident learning: Northcutt,
  Jiang & Chuang, JAIR 70, 2021, in its simplest form);
- computed_tomography: the skull is bright and touches the brain; in MR the bone is dark, between scalp and brain;
- lesion: an image labelled tumour-free has a compact spot that the other half of the head lacks.

Thresholds were set by looking at pictures of the Kaggle set. The classifier sees thumbnails and grey levels: it is far
weaker than a network, so that what it contradicts is worth a look, and no more.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from mri.data.properties import Evidence
from mri.evaluation.scores import TUMOUR_FREE

COLUMNS = ("id", "path", "label", "reason", "other", "score")
FOLDS, TREES = 5, 200
# A label is contradicted when the classifier gives it less than this.
DOUBTED = 0.05
# Background of a prepared image, and what counts as the outer shell of the head: this share of its largest depth.
DARK, SHELL, RAYS = 20, 0.4, 72
# Grey levels by which the shell's brightest layer exceeds 95 % of the brain, and its least, in CT.
SKULL_ABOVE_BRAIN, SKULL = 38, 225
# In CT nothing between skull and brain is darker than this share of the brain.
GAP = 0.6
# Spots: side at which the halves of a head are compared, and their least correlation.
SIDE, SYMMETRIC = 80, 0.75
# A spot is 1 high when it differs by this many robust deviations and by this share of the brain's brightness.
DEVIATIONS, SHARE = 8.0, 0.4
SPOT = 0.75


def suspects(index: pd.DataFrame, pixels: np.ndarray, evidence: Evidence, seed: int) -> pd.DataFrame:
    """Return a row per suspicious image and reason, the clearest first within a reason.

    index: id, path, label and group of N images. pixels: uint8 (N, S, S), prepared. evidence: of them.
    Columns: id, path, label, reason, other (the class that the classifier prefers, "" for other reasons) and score
    (label: how much more probable that class is, 0 to 1; computed_tomography: brightness of the darkest layer between
    skull and brain, 1 for the brain's; lesion: height of the spot, see `spot`).
    """
    tables = [_by_label(index, evidence, seed)]
    tomography = np.array([skull_touches_brain(image) for image in pixels])
    tables.append(_rows(index, "computed_tomography", tomography, tomography >= GAP))
    free = (index["label"] == TUMOUR_FREE).to_numpy()
    looked_at = free & (tomography < GAP)
    spots = np.array([spot(image) if look else 0.0 for image, look in zip(pixels, looked_at, strict=True)])
    tables.append(_rows(index, "lesion", spots, spots >= SPOT))
    return pd.concat(tables, ignore_index=True)


def _rows(index: pd.DataFrame, reason: str, scores: np.ndarray, listed: np.ndarray) -> pd.DataFrame:
    table = index[["id", "path", "label"]].assign(reason=reason, other="", score=scores)[listed]
    return table.sort_values(["score", "id"], ascending=[False, True])[list(COLUMNS)]


def _by_label(index: pd.DataFrame, evidence: Evidence, seed: int) -> pd.DataFrame:
    """List the labels that a classifier contradicts; none where a class has too few groups for `FOLDS`."""
    names, labels = np.unique(index["label"].to_numpy(str), return_inverse=True)
    groups = index["group"].to_numpy()
    if len(names) < 2 or pd.Series(groups).groupby(labels).nunique().min() < FOLDS:
        return pd.DataFrame(columns=list(COLUMNS))
    thumbnails = evidence.thumbnails.reshape(len(index), -1)
    features = np.concatenate([thumbnails / np.maximum(thumbnails.max(1, keepdims=True), 1), evidence.grey_levels], 1)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    trees = ExtraTreesClassifier(TREES, class_weight="balanced", random_state=seed, n_jobs=-1)
    unseen = cross_val_predict(trees, features, labels, groups=groups, cv=folds, method="predict_proba")
    other = contradicted(unseen, labels)
    own = unseen[np.arange(len(labels)), labels]
    listed = (other >= 0) & (own < DOUBTED)
    table = _rows(index, "label", unseen[np.arange(len(labels)), other] - own, listed)
    return table.assign(other=pd.Series(names[other], index.index)[table.index])


def contradicted(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the class that each image is confidently of instead of its label, int64 (N,); -1 for no such class.

    probabilities: (N, C), of classifiers that did not learn from the image. labels: int (N,), each class occurring.
    An image is confidently of a class when that class is at least as probable as on average in the images labelled so,
    and of the most probable one if there are several (the off-diagonal of the confident joint of Northcutt et al.).
    """
    classes = probabilities.shape[1]
    usual = np.array([probabilities[labels == k, k].mean() for k in range(classes)])
    confident = np.where(probabilities >= usual, probabilities, -1.0)
    best = confident.argmax(1)
    return np.where((confident.max(1) >= 0) & (best != labels), best, -1)


def skull_touches_brain(pixels: np.ndarray) -> float:
    """Return how bright the darkest layer between skull and brain is, 1 for the brain's brightness; 0 without a skull.

    pixels: uint8 (S, S). Of `RAYS` rays from the head's centre, the median.
    """
    solid, depth = _head(pixels)
    deepest = depth.max()
    if deepest < 10:
        return 0.0
    centre = ndimage.center_of_mass(solid)
    angle = 2 * np.pi * np.arange(RAYS)[:, None] / RAYS
    radius = np.arange(int(1.5 * len(pixels) / 2))
    places = [centre[0] + np.sin(angle) * radius, centre[1] + np.cos(angle) * radius]
    levels, depths = (ndimage.map_coordinates(array, places, order=1) for array in (pixels.astype(np.float32), depth))
    shell = (depths > 0) & (depths < SHELL * deepest)
    brightest = np.where(shell, levels, -1).argmax(1)
    skull = np.median(levels[np.arange(RAYS), brightest])
    usual, bright = np.percentile(pixels[depth > SHELL * deepest], [50, 95])
    between = np.where(shell & (radius < brightest[:, None]), levels, np.inf).min(1)
    between = between[np.isfinite(between)]
    if skull < max(SKULL, bright + SKULL_ABOVE_BRAIN) or not len(between):
        return 0.0
    return float(np.median(between) / max(usual, 1))


def spot(pixels: np.ndarray) -> float:
    """Return the height of the clearest spot in the brain that its mirror image lacks; 1 for an obvious one.

    pixels: uint8 (S, S). Both halves are smoothed to a thirtieth of the side. The height is the lesser of the largest
    difference over `DEVIATIONS` median absolute deviations and over `SHARE` of the brain's median; 0 for a head whose
    halves don't correlate, such as one seen from the side.
    """
    step = max(1, len(pixels) // SIDE)
    side = len(pixels) // step * step
    small = pixels[:side, :side].reshape(side // step, step, side // step, step).mean((1, 3))
    image, correlation = _upright(small)
    _, depth = _head(image)
    brain = depth > SHELL / 1.6 * depth.max()
    brain &= brain[:, ::-1]
    if correlation < SYMMETRIC or brain.sum() < 4 * SIDE:
        return 0.0
    smooth = ndimage.gaussian_filter(image, len(image) / 32)
    difference = np.abs(smooth - smooth[:, ::-1])[brain]
    deviation = max(1.4826 * float(np.median(difference)), 1.0)
    usual = max(float(np.median(image[brain])), 1.0)
    return float(difference.max() / max(DEVIATIONS * deviation, SHARE * usual))


def _upright(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Turn and shift a picture so that it is as symmetric as it can be; return it, and how its halves correlate."""
    best, found = -1.0, image
    for degrees in range(-12, 13, 4):
        turned = ndimage.rotate(image, degrees, reshape=False, order=1)
        for shift in range(-4, 5):
            moved = np.roll(turned, shift, axis=1)
            correlation = float(np.corrcoef(moved.ravel(), moved[:, ::-1].ravel())[0, 1]) if np.ptp(moved) else 0.0
            if correlation > best:
                best, found = correlation, moved
    return found, best


def _head(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the head with its holes filled, bool (S, S), and the depth of each pixel below its surface, float."""
    solid = ndimage.binary_fill_holes(ndimage.binary_opening(pixels > DARK, iterations=2))
    return solid, ndimage.distance_transform_edt(np.pad(solid, 1))[1:-1, 1:-1].astype(np.float32)
