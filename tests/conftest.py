"""Shared fixtures and helpers: small synthetic images and a small network."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

from mri.base.params import ArchitectureSpec, Params, parse
from mri.commands.compose import compose
from mri.data.dataset import Part

ROOT = Path(__file__).parents[1]

# Small networks gain nothing from a second thread, and lose much when the cores are busy.
torch.set_num_threads(1)

# A busy machine is no failure.
settings.register_profile("mri", deadline=None)
settings.load_profile("mri")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the whole pipeline first: it takes longest, and the other tests run beside it."""
    items.sort(key=lambda item: item.get_closest_marker("end_to_end") is None)


CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
OFFLINE = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
needs_browser = pytest.mark.skipif(
    not shutil.which(CHROMIUM), reason=f"no browser at {CHROMIUM}: run `make browser`, or name one in CHROMIUM"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yield a browser, closed with its module: while it is open, nothing else in the process can run an event loop."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        yield browser
        browser.close()


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def params() -> Params:
    """The default parameters."""
    return parse(compose([], ROOT / "conf"))


@pytest.fixture
def small_spec() -> ArchitectureSpec:
    """A real but fast network: ResNet18."""
    return architecture("small", "resnet18", "layer4", "layer3")


def architecture(name: str, builder: str, feature_layer: str, fine_layer: str) -> ArchitectureSpec:
    """A torchvision network without pre-trained weights, with ImageNet's mean and standard deviation."""
    return ArchitectureSpec(
        name=name,
        builder=builder,
        options={},
        weights="",
        feature_layer=feature_layer,
        fine_layer=fine_layer,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package of two small networks, "winner" and "other"; read-only."""
    from tests import packages  # which takes its images from here

    folder = tmp_path_factory.mktemp("package")
    packages.package(folder)
    return folder


def eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Wait until a condition holds; return whether it did. For what a service does after it has answered."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def blobs(n: int, size: int = 32, seed: int = 0) -> Part:
    """Return n noisy images of four classes; each class has another bright quarter."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 4
    pixels = random.integers(0, 80, (n, size, size), np.uint8)
    half = size // 2
    for image, label in zip(pixels, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[row * half : (row + 1) * half, column * half : (column + 1) * half] += 120
    return Part(pd.DataFrame({"id": np.arange(n).astype(str)}), pixels, labels.astype(np.int64))


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Limit files to `size` bytes, so that writers fail as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
