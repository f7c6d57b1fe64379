"""Find related images, split without leakage, and score trivial classifiers."""

import numpy as np
import pandas as pd

from mri.base import cli
from mri.base.files import write_csv, write_json
from mri.base.params import AuditOptions, Params
from mri.base.paths import DATASET, DETAILS, PLOTS, REFERENCE, SHEETS, SPLITS
from mri.data import dataset, matching, relations, splits
from mri.data.decoding import Decoded, decode, decode_masks, decode_views
from mri.evaluation import trivial_classifiers
from mri.report.sheets import class_counts, duplicate_sheet, images_per_patient, save


def split(params: Params) -> None:
    """Write artifacts/splits (index, pixels, masks), metrics/details/data.json, plots/data and plots/sheets/data."""
    options, classes = params.audit, params.data.classes
    frame = dataset.read_index(DATASET)
    decoded = decode(DATASET, frame, params.size, options.size, SPLITS)
    frame, matched = _matched(params, frame, decoded)
    pairs = matching.similar_pairs(decoded.views, options.similar, options.cells)
    related = relations.relations(frame, decoded.hashes, pairs, options.near)
    contradicted = relations.contradictions(frame, related)
    frame, dropped = relations.resolve_labels(frame, related, options.conflicts)
    frame = splits.split(frame, related, params.split, params.seed, dropped)
    similar = relations.neighbours(frame, pairs, options.near)
    scores = _baselines(params, frame, decoded)
    metrics = relations.summarise(frame, related, similar, contradicted, classes, scores)
    metrics |= {"matched": matched, "skipped": len(pd.read_csv(DATASET / dataset.SKIPPED))}
    if matched:
        metrics["calibration"] = relations.calibration(frame, pairs, _thresholds(options))
    frame = frame.assign(mask_row=decode_masks(DATASET, frame, REFERENCE, params.size, SPLITS))
    dataset.write_index(frame.assign(row=np.arange(len(frame))), SPLITS)
    write_csv(contradicted, SPLITS / "contradictions.csv")
    write_csv(similar, SPLITS / "neighbours.csv")
    copies = pairs[pairs["correlation"] >= options.near]
    write_csv(_by_id(frame, copies), SPLITS / "duplicates.csv")
    write_json(metrics, DETAILS / "data.json")
    _draw(params, frame, copies)


def _matched(params: Params, frame: pd.DataFrame, decoded: Decoded) -> tuple[pd.DataFrame, dict]:
    """Return the index with what it inherits from the reference dataset, if any, and a summary of the matches."""
    if not (REFERENCE / dataset.INDEX_FILE).exists():
        return frame, {}
    reference = dataset.read_index(REFERENCE)
    references = decode_views(REFERENCE, reference, params.audit.size)
    matches = matching.match(decoded.views, references, params.audit.similar, params.audit.cells)
    frame = matching.inherit(frame, matches, reference, params.audit.near)
    return frame, matching.describe(frame, matches, params.audit.near)


def _thresholds(options: AuditOptions) -> list[float]:
    """Return the audit's two thresholds and every hundredth above the lower one."""
    hundredths = (round(float(value), 2) for value in np.arange(0.5, 1, 0.01))
    return sorted({options.similar, options.near, *(value for value in hundredths if value > options.similar)})


def _baselines(params: Params, frame: pd.DataFrame, decoded: Decoded) -> dict[str, dict]:
    """Score trivial classifiers by protocol: on the split in use, and on the source's own split if it has one.

    They also learn from the validation part, since nothing of them is chosen by validation scores.
    """
    part, official = frame["split"].to_numpy(), frame["official_split"].to_numpy()
    parts = {params.split.protocol: (np.isin(part, ("train", "val")), part == "test")}
    if {"train", "test"} <= set(official):
        parts["official"] = (official == "train", official == "test")
    classes, resamples, seed = params.data.classes, params.evaluate.resamples, params.seed
    return {
        protocol: trivial_classifiers.score(frame, decoded.evidence, train, test, classes, resamples, seed)
        for protocol, (train, test) in parts.items()
    }


def _by_id(frame: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    a, b = (frame["id"].to_numpy()[pairs[end]] for end in ("a", "b"))
    return pairs[["transform", "correlation"]].assign(id_a=a, id_b=b)


def _draw(params: Params, frame: pd.DataFrame, copies: pd.DataFrame) -> None:
    folder = PLOTS / "data"
    (SHEETS / "data").mkdir(parents=True, exist_ok=True)
    (SHEETS / "data/.gitkeep").touch()  # git doesn't keep empty folders, and DVC would restore it
    save(class_counts(frame, params.data.classes), folder / "classes.png")
    save(images_per_patient(frame), folder / "images_per_patient.png")
    crossing = relations.across(frame, copies, "official_split")
    if len(crossing):
        pixels = np.load(SPLITS / "images.npy", mmap_mode="r")
        save(
            duplicate_sheet(pixels, frame, crossing, "On both sides of the source's own split"),
            SHEETS / "data/duplicates.jpg",
        )


if __name__ == "__main__":
    cli.run_stage(split)
