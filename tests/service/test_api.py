import base64
import io
import json
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import mri.inference.package
from mri.base.errors import UserError
from mri.data import images
from mri.explanation.maps import explain
from mri.inference.package import Package
from mri.inference.runtime import read_card, write_card
from mri.networks.predict import to_tensor
from service import api, schemas
from service.monitoring import drift
from service.predictor import Predictor
from tests.packages import CLASSES, SIZE, application, network, relist, scan

MODELS = ("winner", "other")


def test_a_prediction_names_class_probabilities_model_and_data(client):
    body = client.post("/predict", files={"image": scan()}).json()
    assert list(body["probabilities"]) == CLASSES
    assert sum(body["probabilities"].values()) == pytest.approx(1)
    assert body["label"] == max(CLASSES, key=body["probabilities"].get)
    assert (body["model"], body["dataset"], body["data_version"]) == ("winner", "phantom", "0123456789ab")
    assert set(body["milliseconds"]) == {"read", "network", "explain", "draw"}
    assert "not a medical device" in body["notice"]


def test_every_packaged_network_can_be_asked_for_by_name(client):
    winner, other = (
        client.post("/predict", files={"image": scan()}, data={"model": name}).json() for name in ("winner", "other")
    )
    assert other["model"] == "other" and other["probabilities"] != winner["probabilities"]


def test_models_lists_what_is_packaged_and_how_it_can_explain(client):
    body = client.get("/models").json()
    assert body["default"] == "winner" and [model["name"] for model in body["models"]] == ["winner", "other"]
    assert {model["precision"] for model in body["models"]} == {"fp32"}
    assert body["synthetic"] is True and body["coverage"] == 0.95 and body["classes"] == CLASSES
    assert {"gradcam", "consensus"} <= set(body["methods"])


def test_another_training_on_the_same_data_has_another_model_version(package, tmp_path):
    def versions(folder):
        client = TestClient(application(folder, tmp_path))
        listed = {model["name"]: model["model_version"] for model in client.get("/models").json()["models"]}
        single = client.post("/predict", files={"image": scan()}).json()
        batched = client.post("/predict_batch", files={"images": scan()}).json()["predictions"][0]["prediction"]
        assert single["model_version"] == batched["model_version"] == listed["winner"]
        return listed, single["data_version"]

    retrained = shutil.copytree(package, tmp_path / "retrained")
    shutil.rmtree(retrained / "models/winner")
    shutil.copytree(package / "models/other", retrained / "models/winner")
    relist(retrained)
    (before, data), (after, same_data) = versions(package), versions(retrained)
    assert data == same_data and before["winner"] != after["winner"] == after["other"] == before["other"]


def test_gradcam_equals_that_of_pytorch(client):
    fields = {"explain": "gradcam", "maps": "true"}
    body = client.post("/predict", files={"image": scan()}, data=fields).json()
    explanation = body["explanations"]["gradcam"]
    values = np.frombuffer(base64.b64decode(explanation["map"]["data"]), "<f4").reshape(explanation["map"]["shape"])
    pixels = images.prepare(images.read(scan()), SIZE)
    expected = explain(network(0), to_tensor(pixels[None]), [CLASSES.index(body["label"])], "gradcam")[0]
    assert values == pytest.approx(expected, abs=1e-4 * float(expected.max()))
    for picture in (explanation["overlay"], body["scan"]):
        assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (SIZE, SIZE)


def slow(seconds, work):
    def slowed(*arguments):
        time.sleep(seconds)
        return work(*arguments)

    return slowed


def test_the_parts_add_up_to_the_time_in_the_worker_drawing_and_loading_included(package, tmp_path, monkeypatch):
    predictor = Predictor(package)
    client = TestClient(application(predictor, tmp_path))
    monkeypatch.setattr(api, "png", slow(0.2, api.png))
    monkeypatch.setattr(predictor.package, "network", slow(0.3, predictor.package.network))
    answering, worker = [], api._answer

    def timed(*arguments):
        started = time.perf_counter()
        answer = worker(*arguments)
        answering.append(1e3 * (time.perf_counter() - started))
        return answer

    monkeypatch.setattr(api, "_answer", timed)
    parts = client.post("/predict", files={"image": scan()}, data={"explain": "gradcam"}).json()["milliseconds"]
    assert parts["draw"] >= 2 * 200 and parts["network"] >= 300  # the overlay and the scan
    assert sum(parts.values()) == pytest.approx(answering[0], rel=0.1)


def test_consensus_asks_all_networks_and_says_when_they_disagree(client):
    labels = {client.post("/predict", files={"image": scan()}, data={"model": name}).json()["label"] for name in MODELS}
    body = client.post("/predict", files={"image": scan()}, data={"explain": "consensus"}).json()
    codes = [reason["code"] for reason in body["reasons"]]
    assert ("models_disagree" in codes) == (len(labels) > 1)
    assert body["abstain"] == bool(codes)


def test_a_bad_file_does_not_fail_the_others_of_a_batch(client):
    files = [("images", scan(1)), ("images", b"x"), ("images", scan(2))]
    items = client.post("/predict_batch", files=files).json()["predictions"]
    assert [item["index"] for item in items] == [0, 1, 2]
    assert items[1]["error"]["error"] == "unreadable_image"
    alone = [client.post("/predict", files={"image": scan(seed)}).json() for seed in (1, 2)]
    for batched, single in zip((items[0], items[2]), alone, strict=True):
        assert batched["prediction"]["probabilities"] == pytest.approx(single["probabilities"], abs=1e-5)


def test_an_image_is_answered_in_a_batch_as_it_is_alone(client):
    """Send more images than go through the network together, of several sizes."""
    files = [scan(seed % 8, side=64 + 16 * (seed % 3)) for seed in range(20)]
    items = client.post("/predict_batch", files=[("images", data) for data in files]).json()["predictions"]
    single_only = {"request_id", "milliseconds", "explanations", "scan"}
    for batched, data in zip(items, files, strict=True):
        single = client.post("/predict", files={"image": data}).json()
        alone = {name: value for name, value in single.items() if name not in single_only}
        for name in ("probabilities", "unlike_training"):
            assert batched["prediction"].pop(name) == pytest.approx(alone.pop(name), rel=1e-3, abs=1e-5)
        assert batched["prediction"] == alone


def test_fields_that_are_null_are_there_for_an_image_in_a_batch_too(package, tmp_path):
    predictor = Predictor(package)
    predictor.package.network().gate = None
    answer = TestClient(application(predictor, tmp_path)).post("/predict_batch", files=[("images", scan())])
    (item,) = answer.json()["predictions"]
    assert set(item) == {"index", "request_id", "prediction"}
    assert set(item["prediction"]) == set(schemas.Prediction.model_fields)
    assert item["prediction"]["unlike_training"] is None


def test_images_of_a_batch_keep_no_features(predictor):
    results, _ = predictor.predict_batch([(scan(), "image")] * 2)
    assert [result.opinion.features for result in results] == [None, None]
    assert predictor.predict(scan()).opinion.features.ndim == 3


def test_requests_in_parallel_get_exactly_the_serial_answers(predictor):
    scans = [scan(seed) for seed in range(8)]
    serial = [predictor.predict(data, explain=["gradcam"]) for data in scans]
    with ThreadPoolExecutor(8) as pool:
        parallel = list(pool.map(lambda data: predictor.predict(data, explain=["gradcam"]), scans))
    for one, other in zip(serial, parallel, strict=True):
        assert one.opinion.probabilities == other.opinion.probabilities
        assert np.array_equal(one.explanations["gradcam"].values, other.explanations["gradcam"].values)


def test_a_loaded_network_is_there_while_another_one_is_being_loaded_once(package, monkeypatch):
    loaded = Package(package)
    loading, go, names = threading.Event(), threading.Event(), []

    def load(folder, name, coverage, shared):
        loading.set()
        assert go.wait(60)
        names.append(name)
        return name

    monkeypatch.setattr(mri.inference.package, "Network", load)
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(loaded.network, "other") for _ in range(2)]
        try:
            assert loading.wait(60)
            assert pool.submit(loaded.network).result(20).name == "winner"
        finally:
            go.set()
        assert [other.result(60) for other in others] == ["other", "other"] and names == ["other"]


def test_those_who_ask_for_a_loaded_network_get_answers_while_many_wait_for_another(package, tmp_path, monkeypatch):
    app = application(package, tmp_path)
    loading, go, load = threading.Event(), threading.Event(), mri.inference.package.Network

    def slowly(*arguments):
        loading.set()
        assert go.wait(60)
        return load(*arguments)

    monkeypatch.setattr(mri.inference.package, "Network", slowly)
    with TestClient(app) as client, ThreadPoolExecutor(50) as pool:

        def ask(model: str) -> Future:
            return pool.submit(client.post, "/predict", files={"image": scan()}, data={"model": model})

        others = [ask("other") for _ in range(45)]  # more than there are threads
        try:
            assert loading.wait(60)
            assert ask("winner").result(20).status_code == 200
        finally:
            go.set()
        assert {other.result(60).json()["model"] for other in others} == {"other"}


def test_a_damaged_package_is_refused_in_one_line(package, tmp_path):
    copy = shutil.copytree(package, tmp_path / "copy")
    file = copy / "models/winner/model.bin"
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"model.bin is damaged \(its SHA-256 is wrong\)"):
        Predictor(copy)
    (copy / "models/other/model.bin").unlink()
    with pytest.raises(UserError, match=r"other/model.bin does not exist"):
        Predictor(copy)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}", "it has no winner"),
        ("[]", "it has no winner"),
        ("3", "it has no winner"),
        ({"coverage": None}, "it has no coverage"),
        ({"models": "winner"}, "it has no models"),
        ({"files": ["models/winner/model.json"]}, "it has no files"),
    ],
)
def test_a_service_json_that_lacks_something_is_refused_in_one_line(package, tmp_path, content, reason):
    copy = shutil.copytree(package, tmp_path / "copy")
    about = copy / "service.json"
    about.write_text(content if isinstance(content, str) else json.dumps(json.loads(about.read_text()) | content))
    with pytest.raises(UserError, match=rf"^\S*service.json is damaged \({reason}\): run `dvc checkout --force`$"):
        Predictor(copy)


def test_a_changed_card_or_reference_is_refused_before_anything_is_answered(package, tmp_path):
    copy = shutil.copytree(package, tmp_path / "copy")
    (copy / "reference.safetensors").write_bytes(b"what drift is measured from")
    relist(copy)
    Package(copy)
    for name in ("models/winner/model.json", "models/other/model.json", "reference.safetensors"):
        content = (copy / name).read_bytes()
        (copy / name).write_bytes(content.replace(b"1.5", b"1.6").replace(b"drift", b"dryft"))
        with pytest.raises(UserError, match=rf"{name} is damaged \(its SHA-256 is wrong\)"):
            Package(copy)
        (copy / name).write_bytes(content)
    (copy / "reference.safetensors").unlink()
    with pytest.raises(UserError, match=r"reference.safetensors does not exist"):
        Package(copy)


def test_a_card_that_lists_no_files_and_one_that_is_not_listed_are_damage(package, tmp_path):
    copy = shutil.copytree(package, tmp_path / "copy")
    about = json.loads((copy / "service.json").read_text())
    del about["files"]["models/other/model.json"]
    (copy / "service.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"other/model.json is damaged \(its SHA-256 is wrong\)"):
        Package(copy)
    for files in (None, {}, ["model.bin"], {"model.bin": 3}):
        write_card(read_card(copy / "models/other") | {"files": files}, copy / "models/other")
        relist(copy)
        with pytest.raises(UserError, match=r"other/model.json is damaged \(it lists no files\)"):
            Package(copy)


def test_the_published_package_is_whole(root):
    package = Package(root / "results/kaggle/package")
    assert package.names == ["efficientnet_b0"] and drift.load(package).window == 100
    listed = {"models/efficientnet_b0/model.json", "reference.safetensors"}
    assert set(package.about["files"]) == listed


def test_the_schema_describes_the_request_and_the_answer(client):
    schema = client.get("/docs.json").json()
    assert "multipart/form-data" in schema["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert schema["components"]["schemas"]["Answer"]["properties"]["probabilities"]["description"]


def test_every_field_of_every_schema_is_described(client):
    described = client.get("/docs.json").json()["components"]["schemas"]
    assert {"Answer", "BatchAnswer", "Error", "Feedback", "Models"} <= set(described)
    fields = {
        f"{name}.{field}": about
        for name, one in described.items()
        for field, about in one.get("properties", {}).items()
    }
    assert [name for name, about in fields.items() if not about.get("description")] == []


def test_every_route_tells_of_the_errors_that_it_may_answer_failures_included(client):
    for path, operations in client.get("/docs.json").json()["paths"].items():
        for operation in operations.values():
            assert {"500", "503"} < set(operation["responses"]), path
            for status in ("500", "503"):
                content = operation["responses"][status]["content"]["application/json"]
                assert content["schema"] == {"$ref": "#/components/schemas/Error"}


def test_a_folder_without_a_packaged_model_is_said_and_the_published_one_named_where_there_is_one(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"holds no packaged model: run `make repro` \(or `dvc pull`\) first$"):
        Predictor(tmp_path)
    published = tmp_path / "results/kaggle/package"
    published.mkdir(parents=True)
    (published / "service.json").write_text("{}")
    advice = (
        ", or take the published one: `make serve MODEL=kaggle`, `--service results/kaggle/package`, "
        "`MRI_SERVICE=results/kaggle/package`$"
    )
    with pytest.raises(UserError, match=f"first{advice}"):
        Predictor(tmp_path)
