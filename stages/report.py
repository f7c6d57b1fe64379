"""Write the report of this run."""

import pandas as pd

from mri import cli, dataset, tracking
from mri.figures import (
    confidence_curves,
    confusion_matrices,
    robustness_curves,
    save,
    score_against_latency,
    training_curves,
)
from mri.findings import findings
from mri.params import Params
from mri.paths import LOCK, MAPS, METRICS, PLOTS, REPORT, SPLITS
from mri.report import PICTURES, collect, pictures, render
from mri.viewer import viewer


def report(params: Params) -> None:
    """Write artifacts/report/report.html: one file, readable without a network."""
    names = list(params.model.architectures)
    content = collect(METRICS, PLOTS, names)
    save(training_curves(PLOTS / "history", names), REPORT / "history.png")
    save(confusion_matrices(content["evaluate"], params.data.classes), REPORT / "confusion.png")
    reliability, risk = (pd.read_csv(PLOTS / f"{name}.csv") for name in ("reliability", "risk_coverage"))
    save(confidence_curves(reliability, risk, names), REPORT / "confidence.png")
    save(robustness_curves(PLOTS / "robustness", names), REPORT / "robustness.png")
    save(score_against_latency(content["summary"]["models"]), REPORT / "score_against_latency.png")
    content["pictures"] |= pictures(REPORT)
    data = dataset.read(SPLITS, params.data.classes)
    content["viewer"] = viewer(data, MAPS, names, 2 * params.explain.sheet, params.seed)
    content["findings"] = findings(content["summary"], content["explain"])
    content |= {"params": params.model_dump(mode="json"), "synthetic": params.data.source == "phantom"}
    (REPORT / "report.html").write_text(render(content), encoding="utf-8")
    _track(params)


def _track(params: Params) -> None:
    with tracking.run("report", {"data": params.data.name}) as run:
        for path in sorted(REPORT.glob("*.*")):
            run.file(path, "report")
        for path in sorted(path for kind in PICTURES for path in PLOTS.rglob(f"*{kind}")):
            run.file(path, path.parent.as_posix())
        run.file(LOCK)


if __name__ == "__main__":
    cli.run_stage(report)
