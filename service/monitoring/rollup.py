"""Send figures of what was recorded to an MLflow experiment of their own: python -m service.monitoring

Each roll-up counts rows that no other one counts, and feedback that has come since the one before, whenever the answers
were given: accuracy is of the feedback, everything else of the rows. It is kept in the store until the tracking server
has it, so that nothing is missing and nothing is counted twice, whatever is stopped when: rows are claimed and their
figures stored in one transaction, and sending the same figures again changes nothing in MLflow. One run per store; a
metric's step is the roll-up's number, its time that of the last row, or of the roll-up where feedback alone has come.

The service starts this as a process now and then (`service.monitoring.background`): MLflow is large, and a server that
hangs must not hold up anything. Where the figures go: `mri.tracking.store.tracking_uri`.
"""

from __future__ import annotations

import os
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from mri.base.errors import UserError
from mri.tracking.run import flatten
from mri.tracking.store import in_one_line, tracking_uri
from service.monitoring.statistics import accuracy, by_model, counts, figures, sample
from service.monitoring.store import WAITS, Store, requests, rollups
from service.settings import Settings

EXPERIMENT = "brain-tumour-mri-monitoring"
# Rows in one roll-up, at most; a longer backlog becomes several.
LARGEST = 50_000
# What no roll-up counts yet: rows, and feedback.
FREE = {"rollup": requests.c.rollup.is_(None), "feedback_rollup": requests.c.feedback_rollup == WAITS}


def waiting(store: Store) -> bool:
    """Check whether there is anything to roll up or to send."""
    with store.begin() as connection:
        unclaimed = [sa.select(requests.c.id).where(free).limit(1) for free in FREE.values()]
        unsent = sa.select(rollups.c.id).where(rollups.c.sent.is_(None)).limit(1)
        return any(connection.execute(query).first() for query in (*unclaimed, unsent))


def claim(store: Store) -> int:
    """Roll up all rows that no roll-up counts yet, and return the number of new roll-ups."""
    count = 0
    while _claim_some(store):
        count += 1
    return count


def _claim_some(store: Store) -> bool:
    with store.begin() as connection:
        # Inserting first makes SQLite lock out other writers before anything is read.
        number = connection.execute(sa.insert(rollups).values(time=0, metrics={}).returning(rollups.c.id)).scalar_one()
        claimed = 0
        for column, free in FREE.items():
            some = sa.select(requests.c.id).where(free).order_by(requests.c.id).limit(LARGEST)
            claiming = sa.update(requests).where(requests.c.id.in_(some), free).values({column: number})
            claimed += connection.execute(claiming).rowcount
        if not claimed:
            connection.rollback()
            return False
        last = connection.execute(sa.select(sa.func.max(requests.c.time)).where(requests.c.rollup == number)).scalar()
        values = {"metrics": _metrics(connection, number), "time": last or time.time()}
        connection.execute(sa.update(rollups).where(rollups.c.id == number).values(**values))
    return True


def _metrics(connection: sa.Connection, number: int) -> dict[str, float]:
    """Return numbers by name: "all/requests", "resnet50/latency_ms.p50", ..."""
    rows = [requests.c.rollup == number]
    counted = counts(connection, rows)
    sampled = sample(connection, rows, counted)
    named = {"all": figures(counted, sampled), **by_model(counted, sampled)} if counted else {}
    confirmed = counts(connection, [requests.c.feedback_rollup == number])
    for name in ("all", *sorted({row.model for row in confirmed})):
        score = accuracy([row for row in confirmed if name in ("all", row.model)])
        named[name] = named.get(name, {}) | {"accuracy": score}
    return {
        f"{name}/{key}": float(value)
        for name, values in named.items()
        for key, value in flatten(values).items()
        if value is not None
    }


def send(store: Store, uri: str) -> int:
    """Send the roll-ups that the tracking server doesn't have yet, the oldest first, and return their number.

    Raises MlflowException when the server is away; what it had received by then is sent again and changes nothing.
    """
    with store.begin() as connection:
        pending = connection.execute(sa.select(rollups).where(rollups.c.sent.is_(None)).order_by(rollups.c.id)).all()
    if not pending:
        return 0
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    client = MlflowClient(uri)
    run = _run(client, store.id())
    for rollup in pending:
        moment = int(1000 * rollup.time)
        metrics = [Metric(name, value, moment, rollup.id) for name, value in rollup.metrics.items()]
        client.log_batch(run, metrics)
        with store.begin() as connection:
            connection.execute(sa.update(rollups).where(rollups.c.id == rollup.id).values(sent=time.time()))
    return len(pending)


def _run(client: Any, store: str) -> str:
    """Return the id of this store's run, created when missing."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    number = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    runs = client.search_runs([number], f"tags.store = '{store}'", max_results=1)
    return (runs or [client.create_run(number, run_name="monitoring", tags={"store": store})])[0].info.run_id


def main() -> None:
    os.nice(10)  # answering comes first
    store = Store(Settings.read().monitoring_url)
    try:
        claimed = claim(store)
    except (SQLAlchemyError, OSError) as error:
        raise UserError(f"the monitoring store can't be used: {in_one_line(error)}") from None
    try:
        sent = send(store, tracking_uri())
    except Exception as error:  # whatever the tracking server throws, the figures wait for the next time
        raise UserError(f"MLflow can't be reached, the figures wait: {in_one_line(error)}") from None
    print(f"rolled up {claimed}, sent {sent}")
