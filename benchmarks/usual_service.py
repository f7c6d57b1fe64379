"""The usual way to serve a trained network, which benchmarks/serving.py compares the service with.

FastAPI on uvicorn; Pillow and torchvision's transforms; the network in eager fp32 PyTorch; maps from pytorch-grad-cam,
one method after another, each drawn as a figure by matplotlib. One request at a time, since hooks, replaced activations
and matplotlib's figures belong to the whole process.

    python -m benchmarks.usual_service artifacts/models/resnet50 224 3001
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import matplotlib

matplotlib.use("Agg")

import cv2
import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, File, Form, UploadFile
from matplotlib import pyplot
from PIL import Image
from pytorch_grad_cam import GradCAM, GuidedBackpropReLUModel
from pytorch_grad_cam.utils.image import deprocess_image, show_cam_on_image
from torchvision import transforms

from mri.base.cli import Parser, guarded, positive
from mri.networks import models


class Usual:
    """One network and how tutorials predict and explain with it."""

    def __init__(self, folder: Path, size: int):
        saved = models.load(folder)
        self.network, self.classes = saved.model.network.eval(), saved.classes
        self.layer = self.network.get_submodule(saved.model.spec.feature_layer)
        self.resize = transforms.Resize((size, size))
        normalise = transforms.Normalize(saved.model.spec.mean, saved.model.spec.std)
        self.transform = transforms.Compose([transforms.ToTensor(), normalise])
        self.methods: dict[str, Callable[[Image.Image, torch.Tensor], np.ndarray]] = {
            "gradcam": self.gradcam,
            "guided_backprop": self.guided_backprop,
            "guided_gradcam": self.guided_gradcam,
        }

    def answer(self, data: bytes, explain: list[str]) -> dict[str, Any]:
        picture = self.resize(Image.open(io.BytesIO(data)).convert("RGB"))
        images = self.transform(picture).unsqueeze(0)
        with torch.no_grad():
            probabilities = torch.softmax(self.network(images), 1)[0].tolist()
        return {
            "label": self.classes[int(np.argmax(probabilities))],
            "probabilities": dict(zip(self.classes, probabilities, strict=True)),
            "explanations": {name: figure(self.methods[name](picture, images), name) for name in explain},
        }

    def gradcam(self, picture: Image.Image, images: torch.Tensor) -> np.ndarray:
        return show_cam_on_image(np.float32(picture) / 255, self._cam(images), use_rgb=True)

    def guided_backprop(self, picture: Image.Image, images: torch.Tensor) -> np.ndarray:
        return deprocess_image(self._guided(images))

    def guided_gradcam(self, picture: Image.Image, images: torch.Tensor) -> np.ndarray:
        return deprocess_image(cv2.merge([self._cam(images)] * 3) * self._guided(images))

    def _cam(self, images: torch.Tensor) -> np.ndarray:
        with GradCAM(model=self.network, target_layers=[self.layer]) as cam:
            return cam(input_tensor=images, targets=None)[0]  # of the class that the network names

    def _guided(self, images: torch.Tensor) -> np.ndarray:
        return GuidedBackpropReLUModel(model=self.network)(images.clone())


def figure(picture: np.ndarray, title: str) -> str:
    """base64 of a PNG."""
    drawn, axes = pyplot.subplots()
    axes.imshow(picture)
    axes.set_title(title)
    axes.axis("off")
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="png")
    pyplot.close(drawn)
    return base64.b64encode(buffer.getvalue()).decode()


def create(usual: Usual) -> FastAPI:
    app = FastAPI()

    @app.get("/readyz")
    async def ready() -> str:
        return "ready"

    @app.post("/predict")
    async def predict(image: Annotated[UploadFile, File()], explain: Annotated[str, Form()] = "") -> dict[str, Any]:
        return usual.answer(await image.read(), [name for name in explain.split(",") if name])

    return app


def main() -> None:
    parser = Parser("benchmarks.usual_service", __doc__)
    parser.add_argument("folder", type=Path, help="of a trained model")
    parser.add_argument("size", type=positive(int), help="side in pixels to which images are resized")
    parser.add_argument("port", type=positive(int))
    arguments = parser.parse_args()
    app = create(Usual(arguments.folder, arguments.size))
    uvicorn.run(app, host="127.0.0.1", port=arguments.port, log_level="warning")


if __name__ == "__main__":
    guarded(main)
