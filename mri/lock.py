"""Give the run in MLflow the dvc.lock of all its stages: python -m mri.lock (`make repro` does, at its end)

No stage can: DVC writes a stage's entry after the stage. The run of the pipeline gets the file and, as its tag
dvc_lock, the first twelve digits of the file's SHA-256. Nothing happens when no stage ran since the last time.
"""

from __future__ import annotations

from mri import journal, tracking
from mri.cli import Parser, guarded
from mri.paths import LOCK


def track() -> None:
    """Track dvc.lock once; not with a run that another commit, other parameters or an experiment made."""
    ran = journal.ran()
    if not ran.is_file() or not LOCK.is_file():
        return
    if ran.read_text() == tracking.pipeline(tracking.commit(), tracking.experiment_name()):
        with tracking.run(tracking.PIPELINE, {"dvc_lock": tracking.digest(LOCK)}) as run:
            run.file(LOCK)
    ran.unlink()


def main() -> None:
    Parser("mri.lock", __doc__).parse_args()
    track()


if __name__ == "__main__":
    guarded(main)
