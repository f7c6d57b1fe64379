"""Send what tracking kept while its server was away: python -m mri.sync (or `make sync`).

Where to is what the stages use: $MLFLOW_TRACKING_URI, $DAGSHUB_REPO, or mlflow.db. Sending again what a server already
has changes nothing. Journals of stages that are running are left to them.
"""

from __future__ import annotations

from mri import journal
from mri.cli import Parser, guarded
from mri.delivery import Delivery, tracking_uri
from mri.errors import UserError


def sync() -> int:
    """Send every waiting journal, the oldest first, and return how many. Raises UserError where the server is away."""
    count, where = 0, tracking_uri()
    for kept in journal.waiting():
        if kept.events():
            try:
                Delivery(kept).send()
            except Exception as error:  # whatever the tracking store throws
                kept.close()
                line = (str(error).strip().splitlines() or [""])[0][:200]
                raise UserError(f"{where} can't be reached, everything unsent is kept ({line})") from None
            count += 1
        kept.delete()
    return count


def main() -> None:
    example = "Example: MLFLOW_TRACKING_URI=http://tracking.example.org:5000 python -m mri.sync"
    Parser("mri.sync", __doc__, example).parse_args()
    print(f"sent {sync()} journals to {tracking_uri()}")


if __name__ == "__main__":
    guarded(main)
