import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mri.base.errors import UserError
from mri.export.openvino import export
from mri.inference.runtime import Runtime, disk_size_mb, read_card, softmax
from mri.networks import models
from mri.networks.predict import predict_logits


@pytest.fixture
def exported(small_spec, tmp_path):
    model = models.build(small_spec, 4, seed=0).eval()
    export(model, list("abcd"), 32, tmp_path / "small", {"temperature": 2.0})
    return model, tmp_path / "small"


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32), np.uint8)


def test_served_logits_and_features_equal_the_trained_networks(exported, pixels):
    import torch

    model, folder = exported
    logits, features = Runtime(folder)(pixels)
    assert logits == pytest.approx(predict_logits(model, pixels), abs=1e-4)
    with torch.inference_mode():
        expected = model.features(torch.from_numpy(pixels).unsqueeze(1).float() / 255)
    assert features == pytest.approx(expected.numpy(), abs=1e-3)


def test_any_number_of_images_gives_the_same_answers(exported, pixels):
    runtime = Runtime(exported[1])
    together = runtime(pixels)[0]
    alone = np.concatenate([runtime(image[None])[0] for image in pixels])
    assert together == pytest.approx(alone, abs=1e-4)


def test_the_card_says_how_to_use_the_model(exported):
    card = read_card(exported[1])
    assert card["classes"] == list("abcd")
    assert card["input"] == {"dtype": "uint8", "layout": "N,H,W", "size": 32, "range": [0, 255]}
    assert card["temperature"] == 2.0
    assert np.shape(card["head_weights"]) == (4, 512)
    assert disk_size_mb(exported[1]) == pytest.approx(44.7, abs=0.5)


def test_a_damaged_or_missing_model_is_refused_in_one_line(exported, tmp_path):
    folder = exported[1]
    (folder / "model.xml").write_text("<net")
    with pytest.raises(UserError, match=r"model.xml can't be loaded"):
        Runtime(folder)
    (folder / "model.json").write_text(json.dumps({"classes": []}))
    with pytest.raises(UserError, match=r"model.json is damaged"):
        Runtime(folder)
    with pytest.raises(UserError, match="does not exist: run `dvc repro`"):
        Runtime(tmp_path / "nowhere")


def test_a_card_of_another_model_is_refused_in_one_line(exported):
    folder = exported[1]
    card = json.loads((folder / "model.json").read_text())
    card["input"]["size"] = 48
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"model.xml can't be loaded"):
        Runtime(folder)


def test_softmax_survives_large_logits():
    assert softmax(np.array([[1000.0, 0.0]])).tolist() == [[1.0, 0.0]]
    assert softmax(np.array([[0.0, np.log(3) * 2]]), temperature=2.0) == pytest.approx(np.array([[0.25, 0.75]]))


SIGNAL_AFTERWARDS = """
import faulthandler, gc, pathlib, signal, subprocess, sys
import numpy as np
from mri.export.quantisation import quantise
from mri.inference.runtime import Runtime
faulthandler.enable()  # as pytest and most servers do
folder = pathlib.Path(sys.argv[1])
pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32), np.uint8)
quantise(folder, pixels)
loaded = [Runtime(folder, precision) for precision in ("fp32", "int8")]
while loaded:
    loaded.pop(0)(pixels)
    gc.collect()
signal.signal(signal.SIGCHLD, lambda *_: print("handled", flush=True))
subprocess.run(["true"])
"""


def test_a_signal_is_handled_after_models_came_and_went(exported, root):
    run = [sys.executable, "-c", SIGNAL_AFTERWARDS, str(exported[1])]
    done = subprocess.run(run, cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["handled"]), done.stderr


AT_ONCE = """
import faulthandler, sys, threading
from pathlib import Path
import numpy as np
from mri.inference.runtime import Runtime

faulthandler.dump_traceback_later(60, exit=True)  # works without the interpreter's lock, which a hanging call holds
runtime, together = Runtime(Path(sys.argv[1])), threading.Barrier(4)
sys.setswitchinterval(1e-6)

def first():
    together.wait()
    runtime(np.zeros((1, 32, 32), np.uint8))

threads = [threading.Thread(target=first) for _ in range(4)]
for thread in threads:
    thread.start()
"""


def test_the_first_calls_of_a_process_may_come_from_several_threads_at_once(exported):
    command = [sys.executable, "-c", AT_ONCE, str(exported[1])]
    assert [subprocess.run(command, check=False).returncode for _ in range(5)] == [0] * 5


def test_shared_or_not_a_call_gives_the_same_answer_however_many_come_at_once(exported, pixels):
    expected = Runtime(exported[1])(pixels)
    shared = Runtime(exported[1], threads=2, shared=True)
    with ThreadPoolExecutor(4) as pool:
        for answer in pool.map(shared, [pixels] * 20):
            assert answer[0] == pytest.approx(expected[0], abs=1e-5)
            assert answer[1] == pytest.approx(expected[1], abs=1e-4)
