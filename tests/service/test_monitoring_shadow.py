"""A shadow answers the same images unseen: its answers are recorded, and whatever it does, requests are answered."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from mri.base.errors import UserError
from mri.base.files import read_json
from mri.data import images
from mri.inference.package import ABOUT, write_about
from service.monitoring import shadow
from service.monitoring.recorder import Recorder
from service.monitoring.shadow import Shadow
from service.monitoring.store import Store
from service.predictor import Predictor
from tests import packages
from tests.conftest import eventually


@pytest.fixture(scope="module")
def candidate(package: Path, tmp_path_factory) -> Path:
    """A package whose default is the network that isn't the default of the served one."""
    folder = tmp_path_factory.mktemp("candidate") / "package"
    shutil.copytree(package, folder, copy_function=os.link)  # hundreds of megabytes
    about = read_json(folder / ABOUT)
    (folder / ABOUT).unlink()
    write_about(about | {"winner": "other"}, folder)
    return folder


@pytest.fixture
def serve(package, candidate, tmp_path):
    """Return a function that serves with a shadow, whose network may be replaced, and its store."""
    clients = []

    def serve(network=None):
        with pytest.MonkeyPatch.context() as patched:
            if network:
                loaded = Shadow.__init__

                def replaced(self, *arguments):
                    loaded(self, *arguments)
                    self._network = network

                patched.setattr(Shadow, "__init__", replaced)
            client = TestClient(packages.application(package, tmp_path, shadow=candidate))
        clients.append(client)
        return client.__enter__(), Store(f"sqlite:///{tmp_path / 'monitoring.db'}")

    yield serve
    for client in clients:
        client.__exit__(None, None, None)


def ask(client, seed: int = 0, **fields) -> dict:
    answer = client.post("/predict", files={"image": packages.scan(seed)}, data=fields)
    assert answer.status_code == 200
    return answer.json()


def states(store) -> list[str | None]:
    return [row.shadow for row in store.select("shadow")]


def test_the_shadow_s_answer_is_in_the_row_of_the_image_and_disagreement_is_counted(serve, candidate):
    client, store = serve()
    answers = [ask(client, seed) for seed in range(4)]
    expected = [Predictor(candidate).predict(packages.scan(seed)).opinion for seed in range(4)]
    assert eventually(lambda: states(store) == ["answered"] * 4)
    rows = store.select("label", "shadow_label", "shadow_confidence")
    assert [row.label for row in rows] == [answer["label"] for answer in answers]
    assert [row.shadow_label for row in rows] == [opinion.label for opinion in expected]
    assert [row.shadow_confidence for row in rows] == pytest.approx(
        [opinion.probabilities[opinion.label] for opinion in expected], abs=1e-5
    )
    figures = client.get("/api/monitoring").json()["shadow"]
    differing = sum(row.label != row.shadow_label for row in rows)
    assert (figures["model"], figures["answered"]) == ("other", 4)
    assert figures["disagreement"]["value"] == differing / 4
    assert sum(pair["images"] for pair in figures["pairs"]) == differing


def test_only_new_images_of_the_default_network_are_asked_about_and_in_a_batch_each_of_them(serve):
    client, store = serve()
    ask(client, again="true")
    ask(client, model="other")
    files = [("images", packages.scan(0)), ("images", b"no image"), ("images", packages.scan(1))]
    assert client.post("/predict_batch", files=files).status_code == 200
    assert eventually(lambda: states(store) == [None, None, "answered", None, "answered"])


class Hung:
    """A network that answers when it is let go."""

    def __init__(self):
        self.go, self.asked = threading.Event(), threading.Event()

    def opinions(self, *_, **__):
        self.asked.set()
        self.go.wait(60)
        raise RuntimeError("let go")


def test_a_shadow_that_hangs_holds_up_no_answer_and_what_it_misses_is_counted(serve, monkeypatch):
    monkeypatch.setattr(shadow, "MAX_WAITING", 2)
    hung = Hung()
    client, store = serve(hung)
    try:
        ask(client)
        assert hung.asked.wait(60)
        for _ in range(4):
            ask(client)
        assert eventually(lambda: states(store) == ["waiting"] * 3 + ["dropped"] * 2)
        figures = client.get("/api/monitoring").json()["shadow"]
        assert (figures["waiting"], figures["dropped"], figures["disagreement"]) == (3, 2, None)
    finally:
        hung.go.set()


def test_a_shadow_that_hangs_does_not_keep_the_service_from_stopping(candidate, tmp_path):
    hung, recorder = Hung(), Recorder(Store(f"sqlite:///{tmp_path / 'monitoring.db'}"))
    asked = Shadow(candidate, packages.CLASSES, recorder)
    asked._network = hung
    asked.start()
    row = {"time": 0.0, "route": "/predict", "status": 200, "ms": 1.0, "label": "glioma"}
    asked.put(row | {"request_id": "a"}, np.zeros((packages.SIZE, packages.SIZE), np.uint8))
    assert hung.asked.wait(60)
    started = time.monotonic()
    asked.stop()
    assert time.monotonic() - started < shadow.STOP_SECONDS + 5
    hung.go.set()
    recorder.close()


def test_a_shadow_that_fails_fails_no_answer_and_is_logged_once(serve, caplog):
    class Failing:
        def opinions(self, *_, **__):
            raise RuntimeError("broken")

    client, store = serve(Failing())
    for seed in range(3):
        ask(client, seed)
    assert eventually(lambda: states(store) == ["failed"] * 3)
    assert client.get("/api/monitoring").json()["shadow"]["failed"] == 3
    assert len([record for record in caplog.records if "the shadow fails" in record.message]) == 1


def test_a_shadow_s_input_has_its_own_size(package):
    predictor = Predictor(package)
    scan = images.read(packages.scan())
    assert predictor.predict(packages.scan()).shadow_pixels is None
    for size in (packages.SIZE, packages.SIZE + 8):
        predictor.shadow_size = size
        results = [predictor.predict(packages.scan()), predictor.predict_batch([(packages.scan(), "image")])[0][0]]
        for result in results:
            assert (result.shadow_pixels == images.prepare(scan, size)).all()
            assert result.pixels.shape == (packages.SIZE, packages.SIZE)


def test_a_folder_that_can_be_no_shadow_is_said_in_one_line(package, tmp_path):
    recorder = Recorder(Store(f"sqlite:///{tmp_path / 'monitoring.db'}"))
    with pytest.raises(UserError, match=r"^\$MRI_SHADOW: .*holds no packaged model"):
        Shadow(tmp_path, packages.CLASSES, recorder)
    with pytest.raises(UserError, match=r"^\$MRI_SHADOW: .* knows glioma, .*, and the service glioma, notumor: "):
        Shadow(package, ["glioma", "notumor"], recorder)
