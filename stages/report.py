"""Write the report of this run and the winner's model card."""

from mri.base import cli
from mri.base.params import Params
from mri.base.paths import DETAILS, PLOTS, REPORT, SHOWN, SPLITS
from mri.data import dataset
from mri.report import model_card, page
from mri.report.page import PICTURES
from mri.report.viewer import viewer
from mri.tracking.run import track


def report(params: Params) -> None:
    """Write artifacts/report/report.html, one file that is readable without a network, and model_card.md and .html."""
    data, names = dataset.read(SPLITS, params.data.classes), list(params.model.architectures)
    page.write(params, DETAILS, PLOTS, REPORT, viewer(data, SHOWN, names))
    model_card.write(params, DETAILS, REPORT)
    _track(params)


def _track(params: Params) -> None:
    with track("report", {"data": params.data.name}) as run:
        for path in sorted(path for path in REPORT.rglob("*.*")):
            run.file(path, path.parent.relative_to(REPORT.parent).as_posix())
        for path in sorted(path for kind in PICTURES for path in PLOTS.rglob(f"*{kind}")):
            run.file(path, path.parent.as_posix())


if __name__ == "__main__":
    cli.run_stage(report)
