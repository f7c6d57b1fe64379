"""A shadow: another package whose network answers the same images, unseen, to be compared before it takes over.

It is asked beside the answers, on one core, for predictions of the default network that aren't repetitions. What it
says goes into the row of the image. It holds up nothing: images wait in a short queue, for a thread of its own, and
those that find the queue full are dropped; their rows say so. A shadow that hangs leaves its rows "waiting".
"""

from __future__ import annotations

import logging
import queue
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from mri.base.errors import UserError
from mri.base.intervals import wilson
from mri.inference.package import Package
from service.monitoring.prometheus import exposed
from service.monitoring.recorder import Recorder
from service.monitoring.store import Store, requests

# Images that may wait: each is a network's input, 9 to 50 kB.
MAX_WAITING = 64
STOP_SECONDS = 1.0
STATES = ("answered", "waiting", "dropped", "failed")
PAIRS = 6

logger = logging.getLogger("service.monitoring")


class Shadow:
    """The default network of a package, asked from a thread of its own."""

    def __init__(self, folder: Path, classes: list[str], recorder: Recorder):
        """Load the package. Raises UserError for a folder without one, and for other classes than the service's."""
        try:
            package = Package(folder, threads=1)
        except UserError as error:
            raise UserError(f"$MRI_SHADOW: {error}") from None
        if package.classes != classes:
            mine, others = ", ".join(package.classes), ", ".join(classes)
            raise UserError(f"$MRI_SHADOW: {folder} knows {mine}, and the service {others}: name a package of the same")
        self._network = package.network()
        self.model, self.version, self.size = package.default, package.version(package.default), self._network.size
        self._recorder = recorder
        self._images: queue.Queue[tuple[str, str, np.ndarray] | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="monitoring-shadow", daemon=True)
        self._stopping = self._has_failed = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, unless it hangs; what still waits gets no answer."""
        self._stopping = True
        with suppress(queue.Full):
            self._images.put_nowait(None)
        self._thread.join(STOP_SECONDS)

    def put(self, row: dict[str, Any], pixels: np.ndarray) -> None:
        """Record a row, and ask about its image, uint8 (size, size), if there is room. Never waits.

        Call it from one thread only: then a place that is free stays free.
        """
        is_dropped = self._images.full()
        state = "dropped" if is_dropped else "waiting"
        # The row goes first, so that it is there when the answer comes.
        self._recorder.put(**row, shadow=state, shadow_version=self.version)
        if is_dropped:
            exposed().shadow.labels("dropped").inc()
        else:
            self._images.put_nowait((row["request_id"], row["label"], pixels))

    def _run(self) -> None:
        while (image := self._images.get()) is not None and not self._stopping:
            name, label, pixels = image
            try:
                (opinion,) = self._network.opinions(pixels[None], features=False)
            except Exception:
                if not self._has_failed:
                    logger.exception("the shadow fails; answers go on, and their rows say so")
                self._has_failed = True
                self._note(name, "failed", shadow="failed")
            else:
                said = {"shadow_label": opinion.label, "shadow_confidence": opinion.probabilities[opinion.label]}
                self._note(name, "agrees" if opinion.label == label else "disagrees", shadow="answered", **said)

    def _note(self, request_id: str, outcome: str, **columns: Any) -> None:
        self._recorder.amend(request_id, **columns)
        exposed().shadow.labels(outcome).inc()


def summary(store: Store, shadow: Shadow | None, since: float, until: float, model: str = "") -> dict[str, Any] | None:
    """Return how often the shadow disagrees: {model, version, answered, waiting, dropped, failed, disagreement, pairs}.

    disagreement: {value, low, high}, a share of those answered, with Wilson's interval, or None; pairs: the most
    frequent [{label, shadow, images}] that differ. model: the network compared with; "" for all. None without a shadow.
    """
    if shadow is None:
        return None
    inside = [requests.c.shadow_version == shadow.version, requests.c.time >= since, requests.c.time <= until]
    if model:
        inside.append(requests.c.model == model)
    kinds = [requests.c[name] for name in ("shadow", "label", "shadow_label")]
    query = sa.select(*kinds, sa.func.count().label("images")).where(*inside).group_by(*kinds)
    with store.begin() as connection:
        rows = connection.execute(query).all()
    numbers = {state: sum(row.images for row in rows if row.shadow == state) for state in STATES}
    differing = [row for row in rows if row.shadow == "answered" and row.label != row.shadow_label]
    differing.sort(key=lambda row: (-row.images, row.label, row.shadow_label))
    count, answered = sum(row.images for row in differing), numbers["answered"]
    return {
        "model": shadow.model,
        "version": shadow.version,
        **numbers,
        "disagreement": wilson(count, answered) if answered else None,
        "pairs": [{"label": row.label, "shadow": row.shadow_label, "images": row.images} for row in differing[:PAIRS]],
    }
