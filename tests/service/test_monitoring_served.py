"""The monitoring of a running service: what it exposes to Prometheus, and what it sends to a collector of traces."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.local_service import Service, served
from mri.base.files import read_json
from mri.inference.drift import Estimator, Observations, fit, random_directions
from mri.inference.package import ABOUT, REFERENCE, Package, write_about
from tests import packages
from tests.conftest import ROOT, blobs, eventually

pytestmark = pytest.mark.slow


class Collector:
    """An OpenTelemetry collector on loopback, which keeps the spans that it receives over OTLP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/v1/traces"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    collector = Collector()
    threading.Thread(target=collector.server.serve_forever, daemon=True).start()
    yield collector
    collector.server.shutdown()


def with_reference(package: Path, folder: Path) -> Path:
    """Return a copy of a package that has a reference with an estimator, as the pipeline's packages do."""
    shutil.copytree(package, folder, copy_function=os.link)  # hundreds of megabytes
    rng = np.random.default_rng(0)
    seen = Observations(rng.integers(0, 4, 80), rng.random(80), rng.random((80, 4)), rng.random((80, 16)))
    features = Package(package).network().opinions(blobs(1, packages.SIZE).pixels)[0].pooled
    directions = random_directions(rng.random((80, len(features))).astype(np.float32), 0)
    about = read_json(folder / ABOUT)
    named = {"model": about["winner"], "data_version": about["data_version"]}
    reference = fit(seen, np.arange(80), directions, named, splits=99)
    replace(reference, estimator=Estimator(0.5, 0.05, 0.2)).save(folder / REFERENCE)
    (folder / ABOUT).unlink()
    write_about(about, folder)
    return folder


@pytest.fixture(scope="module")
def service(package: Path, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a reference and a shadow, that is asked to trace as docs/monitoring.md describes."""
    folder = tmp_path_factory.mktemp("served")
    (example,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/monitoring.md").read_text(), re.DOTALL)
    endpoint = yaml.safe_load(example)["services"]["brain_tumour_classifier"]["tracing"]["otlp"]["endpoint"]
    configuration = folder / "tracing.yaml"
    configuration.write_text(example.replace(endpoint, collector.address))
    settings = {"BENTOML_CONFIG": str(configuration), "MRI_SHADOW": str(package), "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with served(folder, 1, package=with_reference(package, folder / "package"), **settings) as service:
        yield service


def predict(service: Service) -> None:
    answer = httpx.post(f"{service.address}/predict", files={"image": packages.scan()}, timeout=60)
    assert answer.status_code == 200


def test_a_prediction_is_a_span_that_the_collector_receives(service, collector):
    predict(service)
    asked = [("http.target", "/predict"), ("http.method", "POST"), ("http.status_code", 200)]

    def received() -> bool:
        spans = [{one.key: one.value.string_value or one.value.int_value for one in span.attributes}
                 for span in collector.spans]  # fmt: skip
        return any(all(span.get(name) == value for name, value in asked) for span in spans)

    assert eventually(received)


def exposed(service: Service) -> dict[str, float]:
    """Return the sum over all labels of each metric."""
    metrics: dict[str, float] = {}
    for line in httpx.get(f"{service.address}/metrics").text.splitlines():
        if line and not line.startswith("#"):
            name, value = re.split(r"[{ ]", line)[0], float(line.split()[-1])
            metrics[name] = metrics.get(name, 0) + value
    return metrics


def test_a_batch_is_one_request_and_a_time_for_each_image_and_the_shadow_counts_them(service):
    predict(service)
    assert eventually(lambda: "mri_shadow_total" in exposed(service))
    before = exposed(service)
    files = [("images", packages.scan(seed)) for seed in range(4)]
    assert httpx.post(f"{service.address}/predict_batch", files=files, timeout=60).status_code == 200

    def grown() -> dict[str, float]:
        after = exposed(service)
        counted = ("mri_request_seconds_count", "mri_image_seconds_count", "mri_images_total", "mri_shadow_total")
        return {name: after[name] - before[name] for name in counted}

    expected = {"mri_request_seconds_count": 1, "mri_image_seconds_count": 4, "mri_images_total": 4}
    assert eventually(lambda: grown() == expected | {"mri_shadow_total": 4})
    after = exposed(service)
    request, image = (after[f"mri_{of}_seconds_sum"] - before[f"mri_{of}_seconds_sum"] for of in ("request", "image"))
    assert request == pytest.approx(image, rel=1e-6)


def expressions(folder: Path) -> list[str]:
    """Return the queries of the Grafana dashboard and of the alert rules."""
    panels = json.loads((folder / "grafana.json").read_text())["panels"]
    rules = [rule for group in yaml.safe_load((folder / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
    return [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in rules]


def test_a_running_service_exposes_every_metric_that_the_dashboard_and_the_alerts_use(service):
    predict(service)
    named = {name for one in expressions(ROOT / "docs") for name in re.findall(r"\b(?:mri|bentoml)_\w+", one)}
    assert len(named) >= 8
    assert eventually(lambda: named <= set(exposed(service))), named - set(exposed(service))
