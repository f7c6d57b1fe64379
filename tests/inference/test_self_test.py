"""A network that computes something else than where it was packaged must not answer as if nothing were wrong."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from fastapi.testclient import TestClient

from mri.base.errors import UserError
from mri.inference import self_test
from mri.inference.package import Package, list_files
from mri.inference.runtime import read_card, write_card
from mri.inference.self_test import RefusedModelError, SelfTest
from tests import packages


@pytest.fixture
def bf16(tmp_path) -> Path:
    """A package of two networks that are served in bf16."""
    packages.package(tmp_path / "package", precision="bf16")
    return tmp_path / "package"


def expect_other_logits(package: Path, name: str, precisions: tuple[str, ...]) -> None:
    """Store logits that this processor won't give."""
    folder = package / "models" / name
    stored = safetensors.numpy.load_file(folder / self_test.FILE)
    stored |= {precision: stored[precision][:, ::-1] + np.arange(4, dtype=np.float32) for precision in precisions}
    safetensors.numpy.save_file(
        {key: np.ascontiguousarray(each) for key, each in stored.items()}, folder / self_test.FILE
    )
    relist(package, name)


def relist(package: Path, name: str) -> None:
    folder = package / "models" / name
    write_card(read_card(folder) | {"files": list_files(folder)}, folder)
    packages.relist(package)


def test_an_unharmed_network_passes_in_its_own_precision(bf16):
    package = Package(bf16)
    assert (package.precision("winner"), package.self_test("winner")) == ("bf16", "passed")
    assert package.self_test("other") == "not loaded yet"


def test_a_network_that_is_off_in_its_precision_runs_in_fp32(bf16):
    expect_other_logits(bf16, "winner", ("bf16",))
    package = Package(bf16)
    assert package.precision("winner") == "fp32"
    assert package.self_test("winner").startswith(
        "runs in fp32 instead: on this processor, in bf16 a probability is off"
    )


def test_a_network_with_a_damaged_graph_is_refused_and_the_others_answer(package, tmp_path):
    """The damage is hidden from the checksums, as if the processor computed wrongly."""
    harmed = shutil.copytree(package, tmp_path / "harmed")
    weights = harmed / "models/winner/model.bin"
    values = np.fromfile(weights, np.float32)
    numbers = (np.abs(values) > 1e-6) & (np.abs(values) < 10)  # not shapes and axes, without which no graph loads
    np.where(numbers, -values, values).tofile(weights)
    relist(harmed, "winner")
    client = TestClient(packages.application(harmed, tmp_path))
    refused = client.post("/predict", files={"image": packages.scan()})
    assert refused.status_code == 503
    assert "winner is refused: on this processor, in fp32 a probability is off" in refused.json()["detail"]
    assert client.post("/predict", files={"image": packages.scan()}, data={"model": "other"}).status_code == 200
    outcomes = {model["name"]: model["self_test"] for model in client.get("/models").json()["models"]}
    assert outcomes["winner"].startswith("winner is refused") and outcomes["other"] == "passed"


def test_a_refused_network_is_not_loaded_again(bf16, monkeypatch):
    expect_other_logits(bf16, "winner", ("bf16", "fp32"))
    package = Package(bf16)
    monkeypatch.setattr(self_test, "load", lambda *_: pytest.fail("loaded again"))
    with pytest.raises(RefusedModelError, match=r"in bf16 .* and in fp32 a probability is off"):
        package.network()
    assert not package.is_loaded()


def test_a_missing_self_test_is_named(package, tmp_path):
    folder = shutil.copytree(package / "models/winner", tmp_path / "winner")
    (folder / self_test.FILE).unlink()
    with pytest.raises(UserError, match=r"self_test\.safetensors is missing or damaged"):
        self_test.load(folder, 1.0)


def test_a_probability_that_is_no_number_does_not_pass():
    assert SelfTest({"fp32": 1.0}).served is None
    assert SelfTest({"bf16": 0.2, "fp32": 0.001}).served == "fp32"
    assert SelfTest({"int8": 0.1}).detail == "passed"
