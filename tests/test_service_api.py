import io

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mri import models
from mri.errors import UserError
from mri.files import write_json
from mri.runtime import export
from service import api
from service.predictor import Predictor

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    """A packaged service of two small networks."""
    from mri.architecture import ArchitectureSpec

    folder = tmp_path_factory.mktemp("service")
    for seed, name in enumerate(("winner", "other")):
        spec = ArchitectureSpec(name=name, builder="resnet18", feature_layer="layer4", fine_layer="layer3")
        model = models.build(spec, 4, seed).eval()
        export(model, CLASSES, 32, folder / "models" / name, {"temperature": 1.5})
    about = {"winner": "winner", "models": ["winner", "other"], "classes": CLASSES, "dataset": "phantom"}
    write_json(about | {"data_version": "0123456789ab"}, folder / "service.json")
    return folder


@pytest.fixture(scope="module")
def client(packaged):
    return TestClient(api.create(Predictor(packaged)))


def scan(side=60) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_prediction_names_class_probabilities_model_and_data(client):
    body = client.post("/predict", files={"image": scan()}).json()
    assert list(body["probabilities"]) == CLASSES
    assert sum(body["probabilities"].values()) == pytest.approx(1)
    assert body["label"] == max(CLASSES, key=body["probabilities"].get)
    assert (body["model"], body["dataset"], body["data_version"]) == ("winner", "phantom", "0123456789ab")
    assert set(body["milliseconds"]) == {"prepare", "network"}
    assert "not a medical device" in body["notice"]


def test_every_packaged_network_can_be_asked_for_by_name(client):
    winner, other = (
        client.post("/predict", files={"image": scan()}, data={"model": name}).json() for name in ("winner", "other")
    )
    assert other["model"] == "other" and other["probabilities"] != winner["probabilities"]


def test_models_lists_what_is_packaged(client):
    assert client.get("/models").json() == {
        "default": "winner",
        "models": ["winner", "other"],
        "classes": CLASSES,
        "dataset": "phantom",
        "data_version": "0123456789ab",
    }


@pytest.mark.parametrize(
    ("files", "data", "status", "error"),
    [
        ({"image": b"no image"}, {}, 422, "unreadable_image"),
        ({"image": b""}, {}, 422, "unreadable_image"),
        ({"image": scan()[:200]}, {}, 422, "unreadable_image"),
        ({"image": scan(8)}, {}, 422, "unreadable_image"),
        ({"image": scan()}, {"model": "vgg"}, 404, "unknown_model"),
        ({"picture": scan()}, {}, 400, "bad_request"),
        (None, {"image": "http://127.0.0.1/a.png"}, 400, "bad_request"),
        (None, {}, 400, "bad_request"),
    ],
)
def test_a_wrong_request_is_answered_with_its_status_and_a_stable_body(client, files, data, status, error):
    answer = client.post("/predict", files=files, data=data)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "detail", "request_id"}
    assert answer.json()["error"] == error and "\n" not in answer.json()["detail"]


def test_the_schema_describes_the_request_and_the_answer(client):
    schema = client.get("/docs.json").json()
    assert "multipart/form-data" in schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert schema["components"]["schemas"]["Answer"]["properties"]["probabilities"]["description"]


def test_a_folder_without_a_packaged_model_is_said(tmp_path):
    with pytest.raises(UserError, match="holds no packaged model: run `make repro`"):
        Predictor(tmp_path)
