import asyncio
import base64
import io
import json
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import bentoml
import numpy as np
import pytest
from bentoml.exceptions import BentoMLException
from PIL import Image
from starlette.testclient import TestClient

import mri.inference.package
from mri.base.errors import UserError
from mri.data import images
from mri.explanation.maps import explain
from mri.inference.package import Package
from mri.inference.runtime import read_card, write_card
from mri.inference.series import Pooling, judge
from mri.networks.predict import to_tensor
from service import api, schemas
from service.monitoring import drift
from service.predictor import Predictor
from tests.imagefiles import containers, volume, zipped
from tests.imagefiles import series as series_files
from tests.packages import CLASSES, SIZE, WORTH, application, network, relist, scan

MODELS = ("winner", "other")
TIMED = ("request_id", "milliseconds")


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scans") / "scan.png"
    path.write_bytes(scan())
    return path


def untimed(answer: dict) -> dict:
    return {name: value for name, value in answer.items() if name not in TIMED}


def test_bentomls_client_gets_the_answers_that_curl_gets(client, url, file):
    with bentoml.SyncHTTPClient(url) as bento:
        assert set(bento.endpoints) == {"predict", "predict_batch", "predict_series", "feedback", "models"}
        answer = bento.predict(image=file, model="winner", explain=["gradcam", "consensus"], maps=True)
        fields = {"model": "winner", "explain": "gradcam,consensus", "maps": "true"}
        assert untimed(answer) == untimed(client.post("/predict", files={"image": scan()}, data=fields).json())
        assert set(answer["explanations"]) == {"gradcam", "consensus"}
        batch = bento.predict_batch(images=[file, file])
        assert [item["prediction"]["label"] for item in batch["predictions"]] == [answer["label"]] * 2
        assert bento.predict_series(images=[file])["probabilities"] == answer["probabilities"]
        assert bento.models() == client.get("/models").json()
        bento.feedback(request_id=answer["request_id"], label=answer["label"])
        for wrong, error in (({"model": "no such"}, "unknown_model"), ({"explain": ["lime"]}, "bad_request")):
            with pytest.raises(BentoMLException, match=error):
                bento.predict(image=file, **wrong)
        with pytest.raises(BentoMLException, match="unknown_request"):
            bento.feedback(request_id="none", label=answer["label"])
        with pytest.raises(BentoMLException, match="unsupported_media_type"):
            bento.predict(image="http://127.0.0.1:9/scan.png")


def test_bentomls_asynchronous_client_does_too(client, url, file):
    async def ask():
        async with bentoml.AsyncHTTPClient(url) as bento:
            answers = await asyncio.gather(*(bento.predict(image=file) for _ in range(3)))
            return answers, await bento.models()

    answers, listed = asyncio.run(ask())
    curled = untimed(client.post("/predict", files={"image": scan()}).json())
    assert [untimed(answer) for answer in answers] == [curled] * 3
    assert listed == client.get("/models").json()


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
        with TestClient(application(folder, tmp_path)) as client:
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


def test_any_class_can_be_explained_and_no_other(client):
    pixels = images.prepare(images.read(scan()), SIZE)
    for index, name in enumerate(CLASSES):
        fields = {"explain": "gradcam,consensus", "maps": "true", "target": name}
        explanations = client.post("/predict", files={"image": scan()}, data=fields).json()["explanations"]
        assert {one["target"] for one in explanations.values()} == {name}
        raw = explanations["gradcam"]["map"]
        values = np.frombuffer(base64.b64decode(raw["data"]), "<f4").reshape(raw["shape"])
        expected = explain(network(0), to_tensor(pixels[None]), [index], "gradcam")[0]
        assert values == pytest.approx(expected, abs=1e-4 * max(float(expected.max()), 1e-3))
    wrong = client.post("/predict", files={"image": scan()}, data={"explain": "gradcam", "target": "cyst"})
    assert (wrong.status_code, wrong.json()["detail"]) == (400, f"target: 'cyst' is not one of {', '.join(CLASSES)}")


def test_a_map_says_how_often_its_kind_hits_and_when_it_is_empty(client, monkeypatch):
    def explanations():
        fields = {"explain": "gradcam,guided_backprop"}
        return client.post("/predict", files={"image": scan()}, data=fields).json()["explanations"]

    known, unknown = explanations().values()
    assert {name: known[name] for name in WORTH} == WORTH and known["note"] is None
    assert [unknown[name] for name in WORTH] == [None] * 4
    monkeypatch.setattr("service.explainer.gradcam", lambda *_: np.zeros((SIZE, SIZE), np.float32))
    empty = explanations()["gradcam"]
    assert empty["note"].endswith(": the map is empty.")
    assert not np.asarray(Image.open(io.BytesIO(base64.b64decode(empty["overlay"]))))[..., 3].any()


def slow(seconds, work):
    def slowed(*arguments):
        time.sleep(seconds)
        return work(*arguments)

    return slowed


def test_the_parts_add_up_to_the_time_in_the_worker_drawing_and_loading_included(package, tmp_path, monkeypatch):
    predictor = Predictor(package)
    monkeypatch.setattr(api, "png", slow(0.2, api.png))
    monkeypatch.setattr(predictor.package, "network", slow(0.3, predictor.package.network))
    answering, worker = [], api._answer

    def timed(*arguments):
        started = time.perf_counter()
        answer = worker(*arguments)
        answering.append(1e3 * (time.perf_counter() - started))
        return answer

    monkeypatch.setattr(api, "_answer", timed)
    with TestClient(application(predictor, tmp_path)) as client:
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
        prediction = batched["prediction"]
        gates = [answer["unlike_training"].pop("score") for answer in (prediction, alone)]
        assert gates[0] == pytest.approx(gates[1], rel=1e-3, abs=1e-3)
        assert prediction.pop("probabilities") == pytest.approx(alone.pop("probabilities"), rel=1e-3, abs=1e-5)
        assert prediction == alone


def test_an_image_in_a_batch_has_all_fields_of_a_prediction(client):
    (item,) = client.post("/predict_batch", files=[("images", scan())]).json()["predictions"]
    assert set(item) == {"index", "request_id", "prediction"}
    assert set(item["prediction"]) == set(schemas.Prediction.model_fields)


def sent_as_series(client, *files: bytes, **data) -> dict:
    answer = client.post("/predict_series", files=[("images", one) for one in files], data=data)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_series_of_one_slice_gives_the_answer_for_that_slice(client):
    alone, series = client.post("/predict", files={"image": scan()}).json(), sent_as_series(client, scan())
    for name in ("label", "probabilities", "abstain", "reasons", "model", "model_version", "synthetic"):
        assert series[name] == alone[name], name
    assert (len(series["slices"]), series["key_slices"], series["left_out"]) == (1, [0], [])


@pytest.mark.parametrize("kind", containers())
def test_every_kind_of_series_is_answered_slice_by_slice(client, kind):
    series = sent_as_series(client, containers()[kind], maps="true")
    assert len(series["slices"]) == 3 and sorted(series["key_slices"]) == [0, 1, 2] and series["plane"] == "axial"
    positions = [one["position"] for one in series["slices"]]
    assert positions == sorted(positions)
    probabilities = np.array([list(one["probabilities"].values()) for one in series["slices"]])
    assert list(series["probabilities"].values()) == pytest.approx(probabilities.mean(0)) and not series["fitted"]
    for one in series["slices"]:
        for picture in (one["scan"], one["overlay"]):
            assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (SIZE, SIZE)


def test_files_of_a_series_are_one_and_what_is_left_out_is_counted_without_names(client):
    files = series_files(volume(3, (32, 24)))
    sent = sent_as_series(client, *files.values(), b"MARKER notes", b"MARKER more notes")
    assert sent["probabilities"] == sent_as_series(client, zipped(files))["probabilities"]
    assert [one["count"] for one in sent["left_out"]] == [2] and "MARKER" not in json.dumps(sent)
    wrong = client.post("/predict_series", files={"images": zipped({"MARKER: name.txt": b"no image"})})
    assert (wrong.status_code, wrong.json()["error"]) == (422, "unreadable_image") and "MARKER" not in wrong.text


def test_pictures_of_one_series_stand_in_the_order_in_which_they_were_sent(client):
    files = [scan(seed) for seed in range(3)]
    sent = sent_as_series(client, *files)
    alone = [client.post("/predict", files={"image": one}).json()["probabilities"] for one in files]
    for one, expected in zip(sent["slices"], alone, strict=True):
        assert one["probabilities"] == pytest.approx(expected, abs=1e-5)
    assert "order" in sent["notes"][0]


def test_a_fitted_pooling_on_the_card_decides_the_verdict(package, tmp_path):
    copy = shutil.copytree(package, tmp_path / "copy")
    pooling = {"focus": 4.0, "sharpness": 0.5}
    write_card(read_card(copy / "models/winner") | {"pooling": pooling}, copy / "models/winner")
    relist(copy)
    result = Predictor(copy).predict_series([(zipped(series_files(volume(3, (32, 24)))), "image")])
    slices = np.array([list(one.probabilities.values()) for one in result.opinions])
    expected = judge(slices, CLASSES, Pooling(**pooling))
    assert list(result.verdict.opinion.probabilities.values()) == pytest.approx(expected.probabilities)
    assert result.fitted and result.key == expected.key


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
    with pytest.raises(UserError, match=rf"^\S*service.json is damaged \({reason}\): copy the package again"):
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
    assert {"Answer", "BatchAnswer", "SeriesAnswer", "Error", "Feedback", "Models"} <= set(described)
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
