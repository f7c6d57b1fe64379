"""The files and folders through which stages pass results on; dvc.yaml has the same paths."""

from __future__ import annotations

from pathlib import Path

DATASET = Path("artifacts/dataset")
REFERENCE = DATASET / "reference"
SPLITS = Path("artifacts/splits")
TEACHER = Path("artifacts/teacher")
MODELS = Path("artifacts/models")
PREDICTIONS = Path("artifacts/predictions")
MAPS = Path("artifacts/maps")
SHOWN = Path("artifacts/shown.npz")  # the few maps that the report shows
GATES = Path("artifacts/gates")
EXPORTED = Path("artifacts/exported")
DRIFT = Path("artifacts/drift")
SERVICE = Path("artifacts/service")
REPORT = Path("artifacts/report")
METRICS = Path("metrics")
SCORES = METRICS / "scores"  # the few numbers by which runs are compared; DVC tracks them as metrics
DETAILS = METRICS / "details"  # everything else that stages measured
RESULTS = Path("results")
PLOTS = Path("plots")
DAGSHUB = Path("dagshub")
PIPELINE = Path("dvc.yaml")
LOCK = Path("dvc.lock")
SHEETS = PLOTS / "sheets"  # pictures that show images of the dataset; those of real scans are not published


def repository() -> Path:
    """Return the repository's folder; in DVC's temporary copy (`dvc exp run --temp` or `--queue`), the original's.

    What must outlive the copy (checkpoints, the tracking store) belongs in the original.
    """
    current = Path.cwd()
    for folder in current.parents:
        if folder.name == "exps" and folder.parts[-3:-1] == (".dvc", "tmp"):
            return folder.parents[2]
    return current
