"""Score the packaged networks on images from elsewhere, after looking for copies of training images among them.

Nothing is chosen by these scores: only the report reads them.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from mri.base import cli
from mri.base.files import write_csv, write_json
from mri.base.params import Params
from mri.base.paths import DATASET, DETAILS, EXTERNAL, PLOTS, REFERENCE, SERVICE, SPLITS
from mri.data import dataset, images, matching, overlap, relations, splits
from mri.data.decoding import decode, decode_masks
from mri.data.download import download
from mri.evaluation.external import LOCALISATION, check, flat, summarise
from mri.evaluation.scores import TUMOUR_FREE
from mri.explanation.scores import mass_accuracy, pointing_game
from mri.inference.gradcam import gradcam_from_features, upsample
from mri.inference.package import Network, Opinion, Package

BATCH = 64  # images whose features are in memory at a time
COPIES = ["id", "copy_of", "among", "correlation", "degrees", "mirrored"]
TRAINING, ITSELF = "training set", "images from elsewhere"


def external(params: Params) -> None:
    """Write artifacts/external (the images, and predictions.csv), metrics/details/external.json and plots/external."""
    EXTERNAL.mkdir(parents=True, exist_ok=True)
    copies, models = pd.DataFrame(columns=COPIES), {}
    counts = {"images": 0, "skipped": 0, "repeated": 0, "contaminated": 0, "scored": 0}
    if params.data.external.source:
        data, copies = _audited(params)
        models = _scored(params, data, set(copies["id"][copies["among"] == TRAINING]))
        counts = {
            "images": len(data.index) + int((copies["among"] == ITSELF).sum()),
            "skipped": len(pd.read_csv(EXTERNAL / dataset.SKIPPED)),
            "repeated": int((copies["among"] == ITSELF).sum()),
            "contaminated": int((copies["among"] == TRAINING).sum()),
            "scored": len(data.index),
        }
    write_csv(copies, PLOTS / "external/copies.csv")
    write_csv(flat(models), PLOTS / "external/parts.csv")
    write_json(counts | {"models": models}, DETAILS / "external.json")


def _audited(params: Params) -> tuple[dataset.Dataset, pd.DataFrame]:
    """Fetch the images; return each picture once, and the list of copies, of one another and of training images."""
    settings, audit, classes = params.data.external, params.audit, params.data.classes
    learned = dataset.read_index(SPLITS)
    index = download(settings.source, settings.options, classes, EXTERNAL, params.seed)
    check(index, learned, f"{settings.input}/patients.csv")
    decoded = decode(EXTERNAL, index, params.size, audit.size, EXTERNAL)
    masks = decode_masks(EXTERNAL, index, REFERENCE, params.size, EXTERNAL)
    pairs = matching.similar_pairs(decoded.views, audit.similar, audit.cells)
    related = relations.relations(index, decoded.hashes, pairs, audit.near)
    index = index.assign(**related[["near", "group"]], row=np.arange(len(index)), mask_row=masks)
    once = splits.representatives(index, np.ones(len(index), bool))
    kept = index[once].set_index("near")["id"]
    repeated = index[~once].assign(copy_of=index.loc[~once, "near"].map(kept), among=ITSELF)
    index = index[once].reset_index(drop=True)
    found = _contaminated(params, index, learned)
    dataset.write_index(index, EXTERNAL)
    return dataset.read(EXTERNAL, classes), pd.concat([found, repeated], ignore_index=True).reindex(columns=COPIES)


def _contaminated(params: Params, index: pd.DataFrame, learned: pd.DataFrame) -> pd.DataFrame:
    """List the images that are copies of images of the run's dataset, whichever part those are in."""
    table = overlap.copies(_described(index, EXTERNAL), _described(learned, DATASET), params.audit.similar)
    ids = {"id": index["id"].to_numpy()[table["a"]], "copy_of": learned["id"].to_numpy()[table["b"]]}
    return table.assign(**ids, among=TRAINING)


def _described(index: pd.DataFrame, folder: Path) -> overlap.Polar:
    paths = [folder / path for path in index["path"]]
    return overlap.polar(len(paths), lambda number: images.read(paths[number]))


def _scored(params: Params, data: dataset.Dataset, contaminated: set[str]) -> dict[str, dict]:
    """Return every packaged network's scores, of the images that are copies of training images apart."""
    package = Package(SERVICE)
    copied = data.index["id"].isin(contaminated)
    models, tables = {}, []
    for name in package.names:
        table = _answers(package.network(name), data)
        tables.append(table.assign(model=name, contaminated=copied))
        models[name] = {
            part: summarise(table[rows].reset_index(drop=True), params.evaluate.resamples, params.seed)
            for part, rows in (("clean", ~copied), ("contaminated", copied))
        }
    write_csv(pd.concat(tables, ignore_index=True), EXTERNAL / "predictions.csv", digits=9)
    return models


def _answers(network: Network, data: dataset.Dataset) -> pd.DataFrame:
    """Return a row per image, as `mri.evaluation.external.summarise` reads it."""
    frame = data.index[["id", "label", "source", "contrast", "group"]].reset_index(drop=True)
    pixels = data.pixels[data.index["row"].to_numpy()]
    rows: list[dict] = []
    for part in dataset.batches(len(frame), BATCH):
        outlines = data.outlines(data.index[part])
        for opinion, outline in zip(network.opinions(pixels[part]), outlines, strict=True):
            refused = any(reason.code == "unlike_training" for reason in opinion.reasons)
            row = {"predicted": opinion.label, "answered": not opinion.abstains, "refused": refused}
            row |= {f"p_{name}": value for name, value in opinion.probabilities.items()}
            rows.append(row | _localisation(network, opinion, outline))
    return frame.join(pd.DataFrame(rows))


def _localisation(network: Network, opinion: Opinion, outline: np.ndarray) -> dict[str, float]:
    """Score Grad-CAM of the predicted class; NaN without an outline, a called tumour or a linear head."""
    weights, cells, features = network.head_weights, network.cells, opinion.features
    if not outline.any() or opinion.label == TUMOUR_FREE or weights is None or cells is None or features is None:
        return dict.fromkeys(LOCALISATION, np.nan)
    target = np.array([network.classes.index(opinion.label)])
    maps = upsample(gradcam_from_features(features[None], weights, target), (len(outline), len(outline)), cells)
    scores = (pointing_game(maps, outline[None])[0], mass_accuracy(maps, outline[None])[0])
    return dict(zip(LOCALISATION, map(float, scores), strict=True))


if __name__ == "__main__":
    cli.run_stage(external)
