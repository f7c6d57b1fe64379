"""Send what tracking kept while its server was away: python -m mri.tracking.sync (or `make sync`).

Where to is what the stages use: $MLFLOW_TRACKING_URI, $DAGSHUB_REPO, or mlflow.db. Sending again what a server already
has changes nothing. Journals of stages that are running are left to them. What the server refuses is kept and doesn't
hold up the rest; the exit code is 2 when something is left.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from mri.base.cli import Parser, guarded
from mri.tracking import journal
from mri.tracking.delivery import Delivery, answers, tracking_uri


@dataclass
class Outcome:
    """How many journals were sent; in a line each: those that are left, and those sent that had unreadable events."""

    sent: int = 0
    left: list[str] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)


def sync() -> Outcome:
    """Send every waiting journal, the oldest first. When the server is away, the first failure is the last."""
    outcome, waiting = Outcome(), journal.waiting()
    try:
        for kept in waiting:
            if not _send(kept, outcome):
                break
    finally:
        for kept in waiting:
            kept.close()
    return outcome


def _send(kept: journal.Journal, outcome: Outcome) -> bool:
    """Send a journal and delete it; false when it is no use to try the next."""
    name, where = kept.folder.name, tracking_uri()
    try:
        if kept.events():
            Delivery(kept).send()
            outcome.sent += 1
    except Exception as error:  # whatever the tracking store throws
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        if not answers(where):
            outcome.left.append(f"{where} can't be reached, everything unsent is kept ({reason})")
            return False
        line = f"{where} doesn't take {name}, which is kept: delete .mlflow-journal/{name} to give it up"
        outcome.left.append(f"{line} ({type(error).__name__}: {reason})")
        return True
    if kept.unreadable:
        outcome.incomplete.append(f"{name}: {kept.unreadable} of its events were unreadable and are not tracked")
    kept.delete()
    return True


def main() -> None:
    example = "Example: MLFLOW_TRACKING_URI=http://tracking.example.org:5000 python -m mri.tracking.sync"
    Parser("mri.tracking.sync", __doc__, example).parse_args()
    outcome = sync()
    print(f"sent {outcome.sent} journals to {tracking_uri()}")
    for line in outcome.incomplete:
        print(f"warning: {line}", file=sys.stderr)
    for line in outcome.left:
        print(f"error: {line}", file=sys.stderr)
    if outcome.left:
        sys.exit(2)


if __name__ == "__main__":
    guarded(main)
