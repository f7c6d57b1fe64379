"""Export a trained network to OpenVINO: pixels in, logits and the last feature maps out.

The graph takes uint8 images as `mri.data.images.prepare` returns them; `mri.inference.runtime` runs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from mri.inference.runtime import MODEL, write_card  # before openvino, whose telemetry it disables
from mri.networks.models import Classifier


def export(model: Classifier, classes: list[str], size: int, folder: Path, extra: dict[str, Any]) -> None:
    """Write model.xml, model.bin and model.json (classes, input contract, head weights, and `extra`) to `folder`."""
    import openvino

    class Served(nn.Module):
        """Pixels in, logits and features out: scaling to [0, 1] and normalisation are part of the graph."""

        def __init__(self, classifier: Classifier):
            super().__init__()
            self.classifier = classifier

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            features, logits = self.classifier.features_and_logits(pixels.unsqueeze(1).float() / 255)
            return logits, features

    folder.mkdir(parents=True, exist_ok=True)
    example = (torch.zeros(2, size, size, dtype=torch.uint8),)
    any_number = {"pixels": {0: torch.export.Dim("images", min=1, max=4096)}}
    program = torch.export.export(Served(model.eval()), example, dynamic_shapes=any_number)
    converted = openvino.convert_model(program, input=[openvino.PartialShape([-1, size, size])])
    for output, name in zip(converted.outputs, ("logits", "features"), strict=True):
        output.get_tensor().set_names({name})
    openvino.save_model(converted, folder / MODEL, compress_to_fp16=False)
    write_card(
        {
            "architecture": model.spec.name,
            "classes": classes,
            "input": {"dtype": "uint8", "layout": "N,H,W", "size": size, "range": [0, 255]},
            "head_weights": model.head_weights.tolist() if model.is_linear_head else None,
            **extra,
        },
        folder,
    )
