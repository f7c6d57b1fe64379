"""The form of requests and answers: what /docs.json describes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from mri.inference.package import ReasonCode

# Examples, and descriptions of what several schemas have.
REQUEST_ID = "6f1d3c1e-52a5-4d0b-9a35-8a2f3b1c7e90"
CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
DATASET = "the data that the networks were trained on"
DATA_VERSION = "identifies the training data exactly"
SYNTHETIC = "whether the networks know drawn images only, and no scans"
MODEL_VERSION = "identifies the network's files: another training has another"
NOTICE = "Research software, not a medical device: not for diagnosis."


class Error(BaseModel):
    """Every answer that is not 2xx."""

    error: str = Field(description="a short name of what is wrong", examples=["unreadable_image"])
    detail: str = Field(
        description="one sentence that says what to change",
        examples=["image: not a PNG, JPEG, DICOM or NIfTI file: convert it to PNG"],
    )
    request_id: str = Field(description="names this request", examples=[REQUEST_ID])


FAILURE: dict[str, Any] = {"model": Error, "description": "The service failed (internal_error); the failure is logged."}
# What routes other than those for images may answer beside what was asked for.
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Error, "description": "Something about the request is wrong: `detail` says what."},
    500: FAILURE,
    503: {"model": Error, "description": "Too much is under way, or the monitoring store can't be used."},
}


class Reason(BaseModel):
    """Why an answer should not be relied on."""

    code: ReasonCode = Field(
        description="low_confidence: not exactly one class in the set; models_disagree: judged where all networks were "
        "asked (explain=consensus); unlike_training: the gate stopped the image",
        examples=["low_confidence"],
    )
    detail: str = Field(
        description="one sentence for people",
        examples=["At 95% coverage 2 classes remain possible: glioma, meningioma."],
    )


class Gate(BaseModel):
    """How strange the image is to the network."""

    score: float = Field(description="squared distance from the training images; higher is stranger", examples=[71.3])
    threshold: float = Field(
        description="the score above which an image counts as unlike those of training", examples=[118.6]
    )


class ImageInfo(BaseModel):
    """The image's size in pixels."""

    width: int = Field(description="as decoded", examples=[512])
    height: int = Field(description="as decoded", examples=[512])
    size: int = Field(description="side of the square that the network saw", examples=[224])


class RawMap(BaseModel):
    """A map's own values, not scaled for display."""

    shape: list[int] = Field(description="rows and columns", examples=[[224, 224]])
    dtype: Literal["float32"] = Field(default="float32", description="the type of the values")
    data: str = Field(description="little-endian values, row by row, in base64")


class Explanation(BaseModel):
    """Where a network looked."""

    overlay: str = Field(description="base64 of a PNG with transparency, of the size of `scan`: lay it over that")
    target: str = Field(description="the class that the map explains", examples=["glioma"])
    agreement: float | None = Field(
        description="consensus only: whether networks point to the same place, 0 to 1; null where none or one has a say"
    )
    map: RawMap | None = Field(description="with maps=true")


class Prediction(BaseModel):
    """What a network says of one image."""

    label: str = Field(description="the most probable class", examples=["glioma"])
    probabilities: dict[str, float] = Field(
        description="calibrated probability of every class; they sum to 1",
        examples=[{"glioma": 0.94, "meningioma": 0.04, "notumor": 0.01, "pituitary": 0.01}],
    )
    set: list[str] = Field(
        description="the classes that can't be ruled out: the true one is among them as often as `coverage` says, for "
        "images like those of training",
        examples=[["glioma"]],
    )
    coverage: float = Field(description="what the set promises", examples=[0.95])
    abstain: bool = Field(description="whether the label should not be relied on; `reasons` says why")
    reasons: list[Reason] = Field(description="why the label should not be relied on; empty unless `abstain`")
    model: str = Field(description="the network that answered", examples=["efficientnet_b0"])
    model_version: str = Field(description=MODEL_VERSION, examples=["89abcdef0123"])
    dataset: str = Field(description=DATASET, examples=["phantom"])
    data_version: str = Field(description=DATA_VERSION, examples=["0123456789ab"])
    synthetic: bool = Field(description=SYNTHETIC)
    unlike_training: Gate | None = Field(description="null where the network has no gate")
    image: ImageInfo = Field(description="the image's size, as it was sent and as it was seen")
    notice: str = Field(default=NOTICE, description="what the answer must not be used for")


class Answer(Prediction):
    """The answer of POST /predict."""

    request_id: str = Field(description="names this request, for POST /feedback", examples=[REQUEST_ID])
    milliseconds: dict[str, float] = Field(
        description="all work on the image, by part, without loading the network before its first request; "
        "explain: making maps and loading what only they need; draw: their PNGs and that of the scan",
        examples=[{"network": 5.0, "read": 2.1, "explain": 1.2, "draw": 8.4}],
    )
    explanations: dict[str, Explanation] = Field(description="by method, those that were asked for")
    scan: str | None = Field(description="base64 of a PNG of what the network saw; null with explain=none")


class BatchItem(BaseModel):
    """One file of a batch: either `prediction` or `error`."""

    index: int = Field(description="place in the request, from 0")
    request_id: str | None = Field(
        default=None,
        description="with `prediction`: names this image, for POST /feedback",
        examples=[f"{REQUEST_ID}/0"],
    )
    prediction: Prediction | None = Field(
        default=None, description="what a network says of the file, if it can be read"
    )
    error: Error | None = Field(default=None, description="why the file can't be read or used")


class BatchAnswer(BaseModel):
    """The answer of POST /predict_batch, in the order of the files sent."""

    request_id: str = Field(
        description="names the request; for POST /feedback every prediction has its own", examples=[REQUEST_ID]
    )
    predictions: list[BatchItem] = Field(description="one for each file")
    milliseconds: dict[str, float] = Field(description="time spent on all files together, by part")


class Feedback(BaseModel):
    """What turned out to be true."""

    request_id: str = Field(
        description="of an answer of POST /predict, or of one of the `predictions` of a batch",
        examples=[REQUEST_ID],
        max_length=64,
    )
    label: str = Field(description="the confirmed class", examples=["glioma"], max_length=64)


class ModelInfo(BaseModel):
    """One packaged network."""

    name: str = Field(description="what the field `model` takes", examples=["efficientnet_b0"])
    model_version: str = Field(description=MODEL_VERSION, examples=["89abcdef0123"])
    size_px: int = Field(description="side of the square it sees")
    size_mb: float = Field(description="of the served graph on disk, in 10^6 bytes")
    precision: Literal["fp32", "bf16", "int8"] = Field(description="of the numbers that it is run with")
    test: dict[str, dict[str, float] | float] = Field(description="scores on test images, with 95 % intervals")


class Models(BaseModel):
    """The packaged networks and what they can be asked for."""

    default: str = Field(description="the network that answers when none is named", examples=["efficientnet_b0"])
    models: list[ModelInfo] = Field(description="the networks that can be named")
    classes: list[str] = Field(description="what an image may be said to show", examples=[CLASSES])
    coverage: float = Field(description="what the sets promise", examples=[0.95])
    dataset: str = Field(description=DATASET, examples=["phantom"])
    data_version: str = Field(description=DATA_VERSION, examples=["0123456789ab"])
    synthetic: bool = Field(description=SYNTHETIC)
    methods: list[str] = Field(description="what `explain` may name beside none")
