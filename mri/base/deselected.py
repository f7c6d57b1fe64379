"""Say which networks' results a run for fewer architectures took out of the working tree, and how to get them back.

`dvc exp run -S model=efficientnet_b1` starts with a checkout, which removes all that belongs to no stage of that run.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from mri.base.paths import DAGSHUB, DETAILS, LOCK, METRICS, PLOTS, repository


def note(selected: Iterable[str]) -> str:
    """Return one line about other networks whose tracked results are gone; "" where there are none.

    Also "" in DVC's temporary copy of the repository, where nobody works.
    """
    if repository() != Path.cwd():
        return ""
    command = ["git", "ls-files", "--deleted", "--", METRICS.as_posix()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    networks = {Path(line).stem for line in done.stdout.splitlines() if Path(line).parent == DETAILS / "evaluate"}
    if not (gone := sorted(networks - set(selected))):
        return ""
    tracked = " ".join(str(path) for path in (LOCK, METRICS, PLOTS, DAGSHUB))
    return (
        f"the results of {', '.join(gone)} are gone from the working tree; back to all networks: "
        f"`git restore params.yaml {tracked} && dvc checkout` (this experiment stays in `dvc exp show`)"
    )
