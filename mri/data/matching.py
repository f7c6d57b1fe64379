"""Find copies: pairs of images that correlate, even when mirrored, turned, reframed or rescaled.

An image is compared in two views. "whole" is its frame resized to a square, so copies whose frames were resized alike
agree pixel by pixel. "centred" is a window placed by centre of mass and spread of the head, so copies with another
border or crop agree too. Similarity is the larger normalised cross-correlation (NCC) of the two views: 1 for equal
pictures whatever their brightness and contrast, 0 for unrelated ones.

The search is exact. NCC is the inner product of two images scaled to mean 0 and length 1. With both divided into the
same cells, a cell contributes the product of its means plus a term from the variation inside it, which by
Cauchy-Schwarz is at most the product of its standard deviations. So the inner product of two short vectors, the cells'
means and standard deviations, is never below the NCC: one blocked matrix product excludes nearly all pairs, and no pair
above the threshold is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

VIEWS = ("whole", "centred")
# The eight symmetries of a square: "mirror_" first flips left and right, then the square is turned anticlockwise.
TRANSFORMS = ("none", "mirror", "turn180", "mirror_turn180", "turn90", "turn270", "mirror_turn90", "mirror_turn270")

# Pixels darker than this share of the head's brightness don't locate the head: they may be JPEG noise.
DARK = 0.2
# Half the side of the centred window, in standard deviations of brightness around its centre: the whole head.
REACH = 2.4
# Elements of the largest temporary array, in the search and in the confirmation of pairs: 64 MB of float32.
BLOCK = 2**24
# Rounding error of float32 in the bound of one pair.
SLACK = 1e-4


def transform(array: np.ndarray, name: str) -> np.ndarray:
    """Return a view of `array` (..., S, S), its last two axes mirrored and turned as one of `TRANSFORMS` says."""
    mirrored = array[..., ::-1] if name.startswith("mirror") else array
    turns = int(name.partition("turn")[2] or 0) // 90
    return np.rot90(mirrored, turns, axes=(-2, -1))


def views(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return both views of one image, uint8 (2, size, size), in the order of `VIEWS`.

    pixels: uint8 (H, W), the whole frame as in the file; a prepared image is cropped.
    """
    whole = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    box = _head_window(whole, pixels.shape)
    if box is None:  # a blank image, black or grey
        return np.stack([whole, whole])
    height, width = pixels.shape
    border = 1 + int(np.ceil(max(0.0, -box[0], -box[1], box[2] - width, box[3] - height)))
    framed = Image.fromarray(np.pad(pixels, border))
    shifted = (box[0] + border, box[1] + border, box[2] + border, box[3] + border)
    centred = framed.resize((size, size), Image.Resampling.BILINEAR, box=shifted)
    return np.stack([whole, np.asarray(centred)])


def _head_window(whole: np.ndarray, shape: tuple[int, ...]) -> tuple[float, float, float, float] | None:
    """Return left, top, right and bottom, in pixels of an image of `shape`, of a square window around the head.

    It is placed by sums over the whole picture, not by the outermost bright pixels, so compression noise can't move it.
    """
    light = whole.astype(np.float64)
    if np.ptp(light) == 0:
        return None
    light = np.maximum(light - DARK * (light**2).sum() / light.sum(), 0)
    centre, variance = [], []
    for axis, length in ((0, shape[1]), (1, shape[0])):  # x from column sums, y from row sums
        weight = light.sum(axis) / light.sum()
        position = (np.arange(len(weight)) + 0.5) * length / len(weight)
        centre.append(float(weight @ position))
        variance.append(float(weight @ (position - centre[-1]) ** 2))
    reach = max(REACH * float(np.sqrt(np.mean(variance))), 1.0)
    return centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach


@dataclass(frozen=True)
class _Pictures:
    """pixels: uint8 (N, V, S, S). mean, norm: (N, V) of the pixels. cells: float32 (N, V, 2, T, T), see the module."""

    pixels: np.ndarray
    mean: np.ndarray
    norm: np.ndarray
    cells: np.ndarray

    def transformed(self, name: str) -> _Pictures:
        return _Pictures(transform(self.pixels, name), self.mean, self.norm, transform(self.cells, name))


def _pictures(pixels: np.ndarray, cells: int) -> _Pictures:
    count, kinds, size, _ = pixels.shape
    if size % cells:
        raise ValueError(f"{size} pixels can't be divided into {cells} cells a side")
    mean, norm = (np.zeros((count, kinds), np.float32) for _ in range(2))
    reduced = np.zeros((count, kinds, 2, cells, cells), np.float32)
    step = max(1, BLOCK // (4 * kinds * size * size))
    for start in range(0, count, step):
        part = slice(start, start + step)
        x = pixels[part].astype(np.float32)
        mean[part] = x.mean((2, 3))
        x -= mean[part][..., None, None]
        norm[part] = np.sqrt((x * x).sum((2, 3)))
        x /= np.maximum(norm[part], 1e-6)[..., None, None]  # a blank image has length 0 and correlates with nothing
        x = x.reshape(*x.shape[:2], cells, size // cells, cells, size // cells)
        means = x.mean((3, 5))
        reduced[part, :, 0] = means
        reduced[part, :, 1] = np.sqrt(np.maximum((x * x).mean((3, 5)) - means**2, 0))
    return _Pictures(pixels, mean, norm, reduced * np.float32(size // cells))


def similar_pairs(pictures: np.ndarray, threshold: float, cells: int, others: np.ndarray | None = None) -> pd.DataFrame:
    """Find every pair of pictures whose NCC reaches `threshold` in either view, under the best of all `TRANSFORMS`.

    pictures: uint8 (N, 2, S, S) from `views`; may be memory-mapped. others: the same of M other pictures; without it
    pairs within `pictures` are found, with a < b. cells: cells per side for the bound, a divisor of S; affects speed
    only: fewer cells make the search cheaper and the bound looser.
    Returns columns a and b (row numbers; b of `others`), transform (turns b into a), whole and centred (NCC, -1 to
    1, of each view under it) and correlation (the larger), sorted by a and b.
    """
    left = _pictures(pictures, cells)
    right = left if others is None else _pictures(others, cells)
    tables = []
    for name in TRANSFORMS:
        turned = right.transformed(name)
        kept = [np.zeros((0, 2), np.int64)]
        for view, a, b in _candidates(left.cells, turned.cells, threshold - SLACK, others is None):
            close = _correlations(left, turned, a, b, view) >= threshold
            kept.append(np.column_stack([a[close], b[close]]))
        a, b = np.unique(np.concatenate(kept), axis=0).T
        scores = {view: _correlations(left, turned, a, b, v).astype(np.float64) for v, view in enumerate(VIEWS)}
        tables.append(pd.DataFrame({"a": a, "b": b, "transform": name, **scores}))
    pairs = pd.concat(tables, ignore_index=True)
    pairs["correlation"] = pairs[list(VIEWS)].max(axis=1)
    best = pairs.sort_values(["a", "b", "correlation"], ascending=[True, True, False], kind="stable")
    return best.drop_duplicates(["a", "b"]).reset_index(drop=True)


def _candidates(
    left: np.ndarray, right: np.ndarray, threshold: float, within: bool
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield (view, a, b), rows of pairs whose bound reaches `threshold` in that view, block by block."""
    x, y = (np.ascontiguousarray(side.reshape(*side.shape[:2], -1).swapaxes(0, 1)) for side in (left, right))
    step = max(1, BLOCK // max(1, len(right)))
    for start in range(0, len(left), step):
        first = start if within else 0
        for view in range(len(VIEWS)):
            a, b = np.nonzero(x[view, start : start + step] @ y[view, first:].T >= threshold)
            a, b = a + start, b + first
            yield (view, a[a < b], b[a < b]) if within else (view, a, b)


def _correlations(left: _Pictures, right: _Pictures, a: np.ndarray, b: np.ndarray, view: int) -> np.ndarray:
    """Return the NCC, float32 (P,), of pictures a of `left` and b of `right` in one view; 0 where one is blank."""
    products = np.zeros(len(a), np.float32)
    step = max(1, BLOCK // (4 * left.pixels[0, 0].size))
    for start in range(0, len(a), step):
        i, j = a[start : start + step], b[start : start + step]
        # In C order, or reshaping would copy turned pictures once more.
        x, y = (
            side[k, view].astype(np.float32, order="C").reshape(len(k), -1)
            for side, k in ((left.pixels, i), (right.pixels, j))
        )
        products[start : start + step] = np.einsum("pi,pi->p", x - left.mean[i, view, None], y)
    scale = left.norm[a, view] * right.norm[b, view]
    return np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)


def match(pictures: np.ndarray, references: np.ndarray, threshold: float, cells: int) -> pd.DataFrame:
    """Find the most similar reference picture of each picture, if any reaches `threshold`.

    pictures: uint8 (N, 2, S, S), references: uint8 (M, 2, S, S), both from `views`.
    Returns N rows: reference (row of `references`, -1 for none), transform (turns the reference into the picture; ""
    for none), whole and correlation (NCC as in `similar_pairs`, 0 for none).
    """
    pairs = similar_pairs(pictures, threshold, cells, references)
    best = pairs.sort_values(["a", "correlation", "b"], ascending=[True, False, True], kind="stable")
    best = best.drop_duplicates("a").set_index("a").reindex(range(len(pictures)))
    return pd.DataFrame(
        {
            "reference": best["b"].fillna(-1).astype(np.int64),
            "transform": best["transform"].fillna("").astype(str),
            "whole": best["whole"].fillna(0).astype(np.float64),
            "correlation": best["correlation"].fillna(0).astype(np.float64),
        }
    )


def inherit(index: pd.DataFrame, matches: pd.DataFrame, reference: pd.DataFrame, same: float) -> pd.DataFrame:
    """Return `index` with what its images inherit from the reference pictures that they are copies of.

    index, reference: columns of `mri.data.dataset`. matches: from `match`, one row per row of `index`. same: the NCC
    from which two pictures are copies; from a match below it nothing is inherited.
    Adds columns, "" where there is no match: reference (its id), transform, reference_label; and mask_from, the id of
    the reference whose mask fits (`inherited_mask`): only for an image without a mask, and only when the whole frames
    agree, because otherwise one is a crop of the other. Unknown patients are filled in, and `source` becomes the
    reference's.
    """
    sure = (matches["correlation"] >= same).to_numpy()
    rows = matches["reference"].to_numpy()[sure]

    def inherited(column: str, otherwise: np.ndarray | str = "") -> np.ndarray:
        values = np.full(len(index), otherwise, object) if isinstance(otherwise, str) else otherwise.astype(object)
        values[sure] = reference[column].to_numpy()[rows]
        return values

    patient = index["patient"].to_numpy()
    masked = (index["mask"] == "").to_numpy() & (inherited("mask") != "") & (matches["whole"] >= same).to_numpy()
    return index.assign(
        patient=np.where(patient == "", inherited("patient"), patient),
        source=inherited("source", index["source"].to_numpy()),
        reference=inherited("id"),
        transform=np.where(sure, matches["transform"].to_numpy(), ""),
        reference_label=inherited("label"),
        mask_from=np.where(masked, inherited("id"), ""),
    )


def describe(index: pd.DataFrame, matches: pd.DataFrame, same: float) -> dict[str, Any]:
    """Summarise the matching: matched images in all, per class and per transform, and how clear the matches are.

    index: from `inherit`. lowest: NCC of the weakest match. doubtful: images whose best reference is similar but not a
    copy; 0 means that no image was ambiguous. references: number of reference pictures with a match.
    """
    sure = index["reference"] != ""
    return {
        "matched": int(sure.sum()),
        "per_class": {name: int(count) for name, count in index.loc[sure, "label"].value_counts().sort_index().items()},
        "transforms": {name: int(count) for name, count in index.loc[sure, "transform"].value_counts().items()},
        "references": int(index.loc[sure, "reference"].nunique()),
        "masks": int((index["mask_from"] != "").sum()),
        "lowest": float(matches.loc[sure.to_numpy(), "correlation"].min()) if sure.any() else 0.0,
        "doubtful": int(((matches["reference"] >= 0) & (matches["correlation"] < same)).sum()),
    }


def inherited_mask(mask: np.ndarray, name: str, shape: tuple[int, int]) -> np.ndarray:
    """Transform a reference picture's mask to its copy's frame, bool `shape`.

    mask: (H, W), non-zero inside the tumour. name: the match's transform. A pixel belongs to the tumour when at least
    half of it does; a smaller tumour keeps the pixel that it covers most.
    """
    cover = Image.fromarray(np.where(transform(np.asarray(mask), name), np.uint8(255), np.uint8(0)))
    resized = np.asarray(cover.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
    return resized >= min(128, max(1, int(resized.max())))
