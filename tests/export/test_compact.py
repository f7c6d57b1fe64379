import shutil

import numpy as np
import pytest
from fastapi.testclient import TestClient

from mri.base.errors import UserError
from mri.export import compact
from mri.inference.runtime import read_card
from service.predictor import Predictor
from tests import packages
from tests.conftest import blobs

PIXELS = blobs(12, packages.SIZE, seed=5).pixels


@pytest.fixture
def room(monkeypatch):
    """The tests' ResNet18 is larger than what is published."""
    monkeypatch.setattr(compact, "LIMIT_MB", 30.0)


def test_one_network_is_packaged_in_half_its_size_with_all_that_serving_needs(package, tmp_path, room):
    full = shutil.copytree(package, tmp_path / "full")
    (full / "reference.safetensors").write_bytes(b"what drift is measured from")
    megabytes = compact.write(full, tmp_path / "small", "winner", PIXELS)
    files = {path.relative_to(tmp_path / "small").as_posix() for path in (tmp_path / "small").rglob("*.*")}
    network = {f"models/winner/{name}" for name in ("gate.safetensors", "model.bin", "model.json", "model.xml")}
    assert files == network | {"reference.safetensors", "service.json"}
    assert megabytes == pytest.approx(22.5, abs=0.5)  # of 44.7
    before, after = (read_card(folder / "models/winner") for folder in (full, tmp_path / "small"))
    assert after.pop("files") != before.pop("files") and after == before


def test_compact_weights_answer_as_the_full_ones_do(package, tmp_path, room):
    compact.write(package, tmp_path / "small", "winner", PIXELS)
    full, small = Predictor(package), Predictor(tmp_path / "small")
    for seed in range(4):
        one, other = (predictor.predict(packages.scan(seed), explain=["gradcam"]) for predictor in (full, small))
        assert other.opinion.probabilities == pytest.approx(one.opinion.probabilities, abs=1e-3)
        assert other.opinion.members == one.opinion.members
        assert other.opinion.score == pytest.approx(one.opinion.score, rel=1e-2)
        maps = [prediction.explanations["gradcam"].values for prediction in (one, other)]
        assert maps[1] == pytest.approx(maps[0], abs=1e-2 * float(maps[0].max()))


def test_methods_that_a_package_lacks_are_not_offered_and_refused_in_one_line(package, tmp_path, room):
    compact.write(package, tmp_path / "small", "winner", PIXELS)
    client = TestClient(packages.application(tmp_path / "small", tmp_path))
    assert client.get("/models").json()["methods"] == ["gradcam"]
    for method in ("guided_backprop", "guided_gradcam", "consensus"):
        answer = client.post("/predict", files={"image": packages.scan()}, data={"explain": method})
        assert answer.status_code == 400
        assert answer.json()["detail"] == f"explain: {method!r} is not one of none, gradcam"


def test_quantised_weights_are_packaged_as_they_are(tmp_path, room):
    packages.package(tmp_path / "full", ("winner",), precision="int8")
    compact.write(tmp_path / "full", tmp_path / "small", "winner", PIXELS)
    full, small = tmp_path / "full/models/winner", tmp_path / "small/models/winner"
    assert (small / "int8.bin").read_bytes() == (full / "int8.bin").read_bytes()
    assert not (small / "model.bin").exists()
    assert Predictor(tmp_path / "small").predict(packages.scan()).opinion.label in packages.CLASSES


def test_a_network_that_is_too_large_is_refused_and_leaves_nothing(package, tmp_path):
    with pytest.raises(UserError, match=r"the package of winner has 22.\d MB, more than 10: not published"):
        compact.write(package, tmp_path / "small", "winner", PIXELS)
    assert not (tmp_path / "small").exists()


def test_a_network_whose_answers_change_is_refused_and_leaves_nothing(package, tmp_path, room, monkeypatch):
    monkeypatch.setattr(compact, "halve", lambda source, target: compact_wrongly(source, target))
    with pytest.raises(UserError, match=r"compact weights change a probability of winner by 0\.\d+: not published"):
        compact.write(package, tmp_path / "small", "winner", PIXELS)
    assert not (tmp_path / "small").exists()


def compact_wrongly(source, target):
    """Write the other network's graph in place of the requested one."""
    halve(source.parents[1] / "other" / source.name, target)


halve = compact.halve


def test_channels_that_are_zero_stay_zero(tmp_path):
    import openvino
    from openvino import opset13 as operations

    weights = np.random.default_rng(0).normal(size=(4, 5000)).astype(np.float32)
    weights[1] = 0
    parameter = operations.parameter([1, 5000], np.float32)
    network = openvino.Model([operations.matmul(parameter, operations.constant(weights), False, True)], [parameter])
    openvino.save_model(network, tmp_path / "full.xml", compress_to_fp16=False)
    compact.halve(tmp_path / "full.xml", tmp_path / "small.xml")
    inputs = np.random.default_rng(1).normal(size=(1, 5000)).astype(np.float32)
    output = compact.core().compile_model(tmp_path / "small.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([inputs])[
        0
    ]
    assert output[0, 1] == 0
    assert output == pytest.approx(inputs @ weights.T, abs=2e-2)  # of values near 70
    assert (tmp_path / "small.bin").stat().st_size == pytest.approx(weights.size * 2, rel=0.01)
