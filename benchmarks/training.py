"""Time the training loop against the usual one, and write results/benchmarks/training.json.

    python -m benchmarks.training
    python -m benchmarks.training --profile resnet50 224    # where the time of one network goes, written nowhere

Both loops train the same network on the same images, size and batch with AdamW and cross-entropy, each in a process of
its own, one after the other and in turns. Images are phantoms saved as the Kaggle set has them: JPEG, 512 pixels a
side.

- usual: a `DataLoader` with one worker per core decodes each image with Pillow and changes it with torchvision's
  transforms (resize, flip, affine, colour jitter, normalise); fp32, NCHW. This is how most tutorials do it.
- ours: `mri.training.trainer.Trainer` as the pipeline runs it, running average and gradient clipping included;
  decoding, which the pipeline does once before all trainings, has a process of its own too and is reported apart.

Every run trains two epochs without a gap and reports the second. `gemm_share` is how near ResNet50's forward and
backward passes come to what this machine can do at all: their multiply-adds per second (three forward passes' worth)
over those of a square matrix product in the same number format, measured in the same process. Memory is the peak of
the proportional set size of a loop's process and its workers.

Where the time goes (`--profile`, one core, 224 pixels): of ResNet50's step convolutions take two thirds, over half of
it backwards, batch normalisation a fifth, activations and residual sums 6 %, augmentation 1 %. Convolutions take 58 %
of EfficientNet-B0's, nearly all of it backwards, where the depthwise ones are slow; batch normalisation 16 %, SiLU
12 %, copies between layouts 9 %. Beside that there are page faults, see `mri.base.hardware`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import records
from mri.base.cli import Parser, guarded, positive
from mri.base.errors import UserError
from mri.base.hardware import keep_freed_memory
from mri.base.params import Params, parse
from mri.commands.compose import compose
from mri.data import dataset
from mri.data.dataset import IMAGES, Part
from mri.data.decoding import decode
from mri.data.download import download
from mri.networks import models
from mri.training.checkpoints import Checkpoint
from mri.training.precision import autocast
from mri.training.trainer import Trainer

OUT = Path("results/benchmarks/training.json")
CASES = (("resnet50", 224), ("efficientnet_b0", 224), ("resnet50", 96), ("efficientnet_b0", 96))
GEMM_CASE = "resnet50_224"
JPEG_SIDE = 512
GEMM_SIDE = 4096
LOOPS = ("usual", "ours")


def parameters(size: int) -> Params:
    """The default pipeline's, for two epochs at one size from random weights."""
    phases = f"train.phases=[{{epochs: 2, size: {size}}}]"
    return parse(compose([f"size={size}", phases, "train.weights=none", "data.options.patients=12"]))


def write_images(count: int, folder: Path) -> None:
    """Write `count` JPEGs and index.csv to `folder`."""
    params = parameters(96)
    download(params.data.source, params.data.options, params.data.classes, folder, params.seed)
    frame = dataset.read_index(folder)
    if count > len(frame):
        raise UserError(f"there are {len(frame)} images, not {count}: lower --steps")
    frame = frame.sample(count, random_state=0).reset_index(drop=True)
    for i, path in enumerate(frame["path"]):
        image = Image.open(folder / path).resize((JPEG_SIDE, JPEG_SIDE), Image.Resampling.BICUBIC)
        image.save(folder / f"{i}.jpg", quality=90)
        frame.loc[i, "path"] = f"{i}.jpg"
    frame.assign(mask="").to_csv(folder / dataset.INDEX_FILE, index=False)


class Files(Dataset):
    """What the usual loop reads: an image file and a label at a time."""

    def __init__(self, folder: Path, frame: pd.DataFrame, classes: list[str], size: int):
        self.paths, self.labels = [folder / path for path in frame["path"]], frame["label"].map(classes.index).tolist()
        self.transform = transforms.Compose(
            [
                transforms.Resize((size, size)),
                transforms.RandomHorizontalFlip(),
                transforms.RandomAffine(12, translate=(0.05, 0.05), scale=(0.88, 1.12)),
                transforms.ColorJitter(brightness=0.2, contrast=0.2),
                transforms.ToTensor(),
                transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.paths[i]).convert("RGB")), self.labels[i]


def usual(params: Params, arch: str, folder: Path) -> dict[str, float]:
    """Run the usual loop and return the images/s of its second epoch."""
    frame, batch = dataset.read_index(folder), params.train.batch
    network = models.build(params.architecture(arch), len(params.data.classes), params.train.seed).network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=params.train.lr)
    files = Files(folder, frame, params.data.classes, params.size)
    workers = torch.get_num_threads()
    loader = DataLoader(files, batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True)
    seconds = 0.0
    for _ in range(2):
        started = time.perf_counter()
        for images, labels in loader:
            optimiser.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimiser.step()
        seconds = time.perf_counter() - started
    return {"images_per_s": len(loader) * batch / seconds}


def decoded(params: Params, arch: str, folder: Path) -> dict[str, float]:
    """Decode all images for `ours` and return the seconds it took."""
    started = time.perf_counter()
    decode(folder, dataset.read_index(folder), params.size, params.audit.size, folder / f"decoded{params.size}")
    return {"decoding_seconds": time.perf_counter() - started}


def ours(params: Params, arch: str, folder: Path) -> dict[str, Any]:
    """Run our loop and return the images/s of its second epoch, and its number format."""
    frame = dataset.read_index(folder)
    pixels = np.load(folder / f"decoded{params.size}" / IMAGES, mmap_mode="r")
    part = Part(frame, pixels, frame["label"].map(params.data.classes.index).to_numpy(np.int64))
    few = Part(frame[:32], np.array(pixels[:32]), part.labels[:32])
    model = models.build(params.architecture(arch), len(params.data.classes), params.train.seed)
    trainer = Trainer(model, part, few, params.train)
    with tempfile.TemporaryDirectory() as checkpoints:
        history = trainer.fit(Checkpoint({}, Path(checkpoints)))
    return {"images_per_s": history[-1]["images_per_s"], "precision": str(trainer.dtype).removeprefix("torch.")}


def pace(params: Params, arch: str, dtype: torch.dtype) -> dict[str, float]:
    """Measure 10^9 multiply-adds per second, of forward and backward passes and of a matrix product in `dtype`."""
    model = models.build(params.architecture(arch), len(params.data.classes), params.train.seed)
    model = model.train().to(memory_format=torch.channels_last)
    images = torch.rand(params.train.batch, 1, params.size, params.size).to(memory_format=torch.channels_last)
    a, b = (torch.rand(GEMM_SIDE, GEMM_SIDE).to(dtype) for _ in range(2))

    def passes() -> None:
        with autocast(torch.device("cpu"), dtype):
            logits = model(images)
        logits.float().square().sum().backward()

    network = 3 * models.gmac(model, params.size) * len(images) / _seconds(passes)
    product = GEMM_SIDE**3 / 1e9 / _seconds(lambda: a @ b)
    return {"network_gmac_per_s": network, "gemm_gmac_per_s": product, "gemm_share": network / product}


def _seconds(call: Any, repeats: int = 3) -> float:
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


class PeakMemory(threading.Thread):
    """Watches how much memory this process and its descendants use together."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.megabytes, self.own, self._ended = 0.0, psutil.Process(), threading.Event()

    def __enter__(self) -> PeakMemory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(0.2):
            total = 0
            for process in [self.own, *self.own.children(recursive=True)]:
                with suppress(psutil.Error):  # it has just ended
                    total += process.memory_full_info().pss
            self.megabytes = max(self.megabytes, total / 1e6)


def run_one(loop: str, arch: str, size: int, folder: Path) -> dict[str, Any]:
    if loop == "ours":
        keep_freed_memory()  # as every stage does
    wall, busy = time.perf_counter(), os.times()
    with PeakMemory() as memory:
        run = {"usual": usual, "decoded": decoded, "ours": ours}[loop]
        result: dict[str, Any] = run(parameters(size), arch, folder)
    cpu = (sum(os.times()[:4]) - sum(busy[:4])) / (time.perf_counter() - wall)
    result |= {"peak_memory_mb": memory.megabytes, "cpu_per_wall": cpu}
    return result | (pace(parameters(size), arch, getattr(torch, result["precision"])) if loop == "ours" else {})


def run_apart(loop: str, arch: str, size: int, folder: Path) -> dict[str, Any]:
    """Call `run_one` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training", "--one", loop, arch, str(size), str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    print(loop, arch, size, result, flush=True)
    return result


def measure(cases: list[tuple[str, int]], steps: int, repeats: int) -> dict[str, Any]:
    """Run all cases: {"resnet50_224": {"usual": {figure: median over repeats}, "ours": ...}}."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(steps * parameters(96).train.batch, folder)
        for arch, size in cases:
            decoding = run_apart("decoded", arch, size, folder)["decoding_seconds"]
            rounds = [{loop: run_apart(loop, arch, size, folder) for loop in LOOPS} for _ in range(repeats)]
            results[f"{arch}_{size}"] = {loop: medians([one[loop] for one in rounds]) for loop in LOOPS}
            results[f"{arch}_{size}"]["ours"]["decoding_seconds"] = decoding
    return results


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of every number, and the speed of every run."""
    kept = {
        key: statistics.median(run[key] for run in runs) if isinstance(value, int | float) else value
        for key, value in runs[0].items()
    }
    return {**kept, "images_per_s_of_each": [run["images_per_s"] for run in runs]}


def ratios(runs: dict[str, Any], figure: str) -> dict[str, float]:
    """Return our figure over the usual loop's, by case."""
    return {case: both["ours"][figure] / both["usual"][figure] for case, both in runs.items()}


def profile(arch: str, size: int) -> None:
    """Print which operators take the time of our training step, after a step to warm up."""
    params = parameters(size)
    model = models.build(params.architecture(arch), len(params.data.classes), params.train.seed)
    random = np.random.default_rng(0)
    count = 2 * params.train.batch
    part = Part(pd.DataFrame(), random.integers(0, 256, (count, size, size), np.uint8), np.arange(count) % 4)
    with tempfile.TemporaryDirectory() as checkpoints, torch.profiler.profile() as watched:
        Trainer(model, part, part, params.train).fit(Checkpoint({}, Path(checkpoints)))
    print(watched.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=60))


def main() -> None:
    parser = Parser("benchmarks.training", __doc__)
    parser.add_argument("--repeats", type=positive(int), default=3, help="runs of each loop")
    parser.add_argument("--steps", type=positive(int), default=4, help="batches per epoch")
    parser.add_argument("--profile", nargs=2, metavar=("ARCH", "SIZE"), help="only print where the time goes")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        loop, arch, size, folder = arguments.one
        print(json.dumps(run_one(loop, arch, int(size), Path(folder))))
    elif arguments.profile:
        arch, size = arguments.profile
        if not size.isdecimal():
            raise UserError(f"--profile takes an architecture and a size in pixels, not {size!r}")
        profile(arch, int(size))
    else:
        runs = measure(list(CASES), arguments.steps, arguments.repeats)
        content = {
            "runs": runs,
            "ratios": ratios(runs, "images_per_s"),
            "memory_ratios": ratios(runs, "peak_memory_mb"),
            "gemm_share": runs[GEMM_CASE]["ours"]["gemm_share"],
        }
        records.write("benchmarks.training", content, OUT)


if __name__ == "__main__":
    guarded(main)
