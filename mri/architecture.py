"""What conf/model says of an architecture. Free of torch, so that reading parameters stays quick."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator


def _one_for_all_channels(value: Any) -> Any:
    return (value,) * 3 if isinstance(value, int | float) else value


Channels = Annotated[tuple[float, float, float], BeforeValidator(_one_for_all_channels)]


class ArchitectureSpec(BaseModel):
    """One architecture as conf/model describes it.

    builder: the function of torchvision.models.
    options: what else that function takes, such as ResNet's zero_init_residual.
    weights: member of torchvision's weights enum for the pre-trained start ("IMAGENET1K_V2"); "" for none.
    feature_layer: the last convolutional stage, whose features Grad-CAM reads (7x7 cells at 224 pixels).
    fine_layer: the stage before it (14x14 cells).
    input_size: pixels of a side.
    mean, std: of the network's three input channels on the scale 0..1; one number stands for all three.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    builder: str
    feature_layer: str
    fine_layer: str
    options: dict[str, Any] = {}
    weights: str = ""
    input_size: int = Field(default=224, ge=32)
    mean: Channels = (0.485, 0.456, 0.406)
    std: Channels = (0.229, 0.224, 0.225)

    @field_validator("std")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if min(value) <= 0:
            raise ValueError(f"std must be positive, got {value}")
        return value
