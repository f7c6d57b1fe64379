"""Show whether maps follow the tumour: beside each scan the same head without it, or another head with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mri.data.dataset import Dataset
from mri.explanation.following import Changed, gradcam
from mri.inference.runtime import softmax
from mri.networks.models import Classifier
from mri.networks.predict import predict_logits
from mri.report.sheets import Panel, blank, panels


def following_sheet(
    model: Classifier, data: Dataset, removed: Changed, pasted: Changed, count: int, title: str
) -> Figure:
    """Draw `count` tumours, half of them removed and half pasted elsewhere: scan, Grad-CAM, changed scan, Grad-CAM.

    Maps are of the tumour's class, before and after. Below each stands how probable that class is.
    """
    chosen = [*_spread(removed, count - count // 2), *_spread(pasted, count // 2)]
    if not chosen:
        return blank(f"no test image has an outlined tumour\n{title}")
    captions = [f"{part.images['label'].iloc[0]}\n{what}" for part, what in chosen]
    before, after = (np.concatenate([getattr(part, name) for part, _ in chosen]) for name in ("before", "after"))
    old, new = (np.concatenate([getattr(part, name) for part, _ in chosen]) for name in ("old", "new"))
    labels = [part.images["label"].iloc[0] for part, _ in chosen]
    target = np.array([data.classes.index(label) for label in labels])
    columns: dict[str, Panel] = {}
    for name, pixels, masks in (("scan", before, old), ("changed", after, new)):
        shares = softmax(predict_logits(model, pixels))[np.arange(len(target)), target]
        texts = [f"{label} {share:.0%}" for label, share in zip(labels, shares, strict=True)]
        columns[name] = Panel(pixels, masks)
        columns[f"Grad-CAM, {name}"] = Panel(pixels, masks, gradcam(model, pixels, target), texts)
    return panels(columns, captions, f"Does the map follow the tumour? {title}")


def _spread(changed: Changed, count: int) -> list[tuple[Changed, Any]]:
    """Return at most `count` of the images, one by one, evenly spaced, with what was done to them."""
    what = "removed" if np.array_equal(changed.old, changed.new) else "pasted elsewhere"
    where = np.unique(np.linspace(0, len(changed) - 1, min(count, len(changed))).astype(int))
    return [(changed[slice(i, i + 1)], what) for i in where.tolist()]
