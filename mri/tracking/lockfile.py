"""Give the run in MLflow the dvc.lock of all its stages: python -m mri.tracking.lockfile (`make repro` does, at its
end)

No stage can: DVC writes a stage's entry after the stage. The run of the pipeline gets the file and, as its tag
dvc_lock, the first twelve digits of the file's SHA-256. Nothing happens when no stage ran since the last time.
"""

from __future__ import annotations

from mri.base.cli import Parser, guarded
from mri.base.paths import LOCK
from mri.tracking import journal, run
from mri.tracking.run import track


def track_lock() -> None:
    """Track dvc.lock once; not with a run that another commit, other parameters or an experiment made."""
    ran = journal.ran()
    if not ran.is_file() or not LOCK.is_file():
        return
    if ran.read_text() == run.pipeline(run.commit(), run.experiment_name()):
        with track(run.PIPELINE, {"dvc_lock": run.digest(LOCK)}) as tracked:
            tracked.file(LOCK)
    ran.unlink()


def main() -> None:
    Parser("mri.tracking.lockfile", __doc__).parse_args()
    track_lock()


if __name__ == "__main__":
    guarded(main)
