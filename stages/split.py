"""Find what leaks, split so that it can't, and say how much trivial classifiers score."""

import numpy as np
import pandas as pd

from mri import audit, baselines, cli, images, index, matching, splits
from mri.decoding import Decoded, decode, decode_views, write_masks
from mri.figures import class_counts, duplicate_sheet, images_per_patient, save
from mri.files import write_csv, write_json
from mri.params import Params
from mri.paths import DATASET, METRICS, PLOTS, REFERENCE, SHEETS, SPLITS


def split(params: Params) -> None:
    """Write artifacts/splits (index, pixels, masks), metrics/data.json, plots/data and plots/sheets/data."""
    options, classes = params.audit, params.data.classes
    frame = index.read(DATASET)
    decoded = decode(DATASET, frame, params.size, options.size, SPLITS)
    frame, matched = _matched(params, frame, decoded)
    pairs = matching.similar_pairs(decoded.views, options.similar, options.cells)
    related = audit.relations(frame, decoded.hashes, pairs, options.near)
    contradicted = audit.contradictions(frame, related)
    frame, dropped = audit.resolve_labels(frame, related, options.conflicts)
    frame = splits.split(frame, related, params.split, params.seed, dropped)
    similar = audit.neighbours(frame, pairs, options.near)
    scores = _baselines(params, frame, decoded)
    metrics = audit.summarise(frame, related, similar, contradicted, classes, scores)
    metrics |= {"matched": matched, "skipped": len(pd.read_csv(DATASET / index.SKIPPED))}
    frame = _with_masks(frame, params.size)
    index.write(frame.assign(row=np.arange(len(frame))), SPLITS)
    write_csv(contradicted, SPLITS / "contradictions.csv")
    write_csv(similar, SPLITS / "neighbours.csv")
    write_json(metrics, METRICS / "data.json")
    _draw(params, frame, pairs)


def _matched(params: Params, frame: pd.DataFrame, decoded: Decoded) -> tuple[pd.DataFrame, dict]:
    """The index with what it inherits from the reference dataset, where there is one, and what was found there."""
    if not (REFERENCE / index.FILE).exists():
        return frame, {}
    reference = index.read(REFERENCE)
    known = decode_views(REFERENCE, reference, params.audit.size)
    matches = matching.match(decoded.views, known, params.audit.similar, params.audit.cells)
    frame = matching.inherit(frame, matches, reference, params.audit.near)
    return frame, matching.describe(frame, matches, params.audit.near)


def _baselines(params: Params, frame: pd.DataFrame, decoded: Decoded) -> dict:
    train, test = ((frame["split"] == part).to_numpy() for part in ("train", "test"))
    resamples, seed = params.evaluate.resamples, params.seed
    return baselines.score(frame, decoded.evidence, train, test, params.data.classes, resamples, seed)


def _with_masks(frame: pd.DataFrame, size: int) -> pd.DataFrame:
    """Write the masks, the images' own and inherited ones, as networks see them; mask_row says which is whose."""
    inherited = frame["mask_from"] if "mask_from" in frame else pd.Series("", frame.index)
    reference = index.read(REFERENCE).set_index("id") if (inherited != "").any() else pd.DataFrame()
    masks: list[np.ndarray] = []
    rows = []
    for _, sample in frame.assign(mask_from=inherited).iterrows():
        mask = _mask(sample, reference)
        rows.append(len(masks) if mask is not None else -1)
        if mask is not None:
            masks.append(images.prepare_mask(mask, images.read(DATASET / sample["path"]), size))
    write_masks(masks, SPLITS, size)
    return frame.assign(mask_row=rows)


def _mask(sample: pd.Series, reference: pd.DataFrame) -> np.ndarray | None:
    if sample["mask"]:
        return images.read(DATASET / sample["mask"]) > 0
    if sample["mask_from"]:
        mask = images.read(REFERENCE / reference.loc[sample["mask_from"], "mask"])
        return matching.inherited_mask(mask, sample["transform"], (int(sample["height"]), int(sample["width"])))
    return None


def _draw(params: Params, frame: pd.DataFrame, pairs: pd.DataFrame) -> None:
    folder = PLOTS / "data"
    (SHEETS / "data").mkdir(parents=True, exist_ok=True)  # empty where nothing crosses
    save(class_counts(frame, params.data.classes), folder / "classes.png")
    save(images_per_patient(frame), folder / "images_per_patient.png")
    crossing = _across_the_official_split(frame, pairs[pairs["correlation"] >= params.audit.near])
    if len(crossing):
        pixels = np.load(SPLITS / "images.npy", mmap_mode="r")
        save(duplicate_sheet(pixels, frame, crossing), SHEETS / "data/duplicates.png")


def _across_the_official_split(frame: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    official = frame["official_split"].to_numpy()
    sides = official[pairs["a"]] + "-" + official[pairs["b"]]
    return pairs[np.isin(sides, ["train-test", "test-train"])]


if __name__ == "__main__":
    cli.run_stage(split)
