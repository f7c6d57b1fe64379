"""The JSON of requests and answers, as /docs.json describes it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from mri.inference.package import ReasonCode

# Examples and descriptions that several schemas share.
REQUEST_ID = "6f1d3c1e-52a5-4d0b-9a35-8a2f3b1c7e90"
CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
DATASET = "the data that the networks were trained on"
DATA_VERSION = "identifies the training data exactly"
SYNTHETIC = "whether the networks were trained on drawn images only, and on no scans"
MODEL_VERSION = "identifies the network's files: each training has its own"
NOTICE = "Research software, not a medical device: not for diagnosis."


class Error(BaseModel):
    """The body of every answer that is not 2xx."""

    error: str = Field(description="a short name of what is wrong", examples=["unreadable_image"])
    detail: str = Field(
        description="one sentence that says what to change",
        examples=["image: a PDF document: a report can't be classified: export its scan as DICOM or PNG"],
    )
    request_id: str = Field(description="identifies this request", examples=[REQUEST_ID])


FAILURE: dict[str, Any] = {"model": Error, "description": "The service failed (internal_error); the failure is logged."}
# Errors of the routes that take no image.
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": Error, "description": "The request is wrong: `detail` says why."},
    500: FAILURE,
    503: {"model": Error, "description": "Too many requests are in progress, or the monitoring store can't be used."},
}


class AbstentionReason(BaseModel):
    """Why an answer should not be relied on."""

    code: ReasonCode = Field(
        description="low_confidence: the set doesn't have exactly one class; models_disagree: the networks predict "
        "different classes (known with explain=consensus only); unlike_training: the gate rejected the image",
        examples=["low_confidence"],
    )
    detail: str = Field(
        description="one sentence for people",
        examples=["At 95% coverage 2 classes remain possible: glioma, meningioma."],
    )


class GateScore(BaseModel):
    """How much the image differs from those that the network was trained on."""

    score: float = Field(description="squared distance from the training images; higher is stranger", examples=[71.3])
    threshold: float = Field(
        description="an image that scores higher counts as unlike the training images", examples=[118.6]
    )


class ImageInfo(BaseModel):
    """The image's size, in pixels."""

    width: int = Field(description="as decoded", examples=[512])
    height: int = Field(description="as decoded", examples=[512])
    size: int = Field(description="side of the square that was the network's input", examples=[224])


class RawMap(BaseModel):
    """A map's values, not scaled for display."""

    shape: list[int] = Field(description="rows and columns", examples=[[224, 224]])
    dtype: Literal["float32"] = Field(default="float32", description="the type of the values")
    data: str = Field(description="little-endian values, row by row, in base64")


class Explanation(BaseModel):
    """An explanation map."""

    overlay: str = Field(description="base64 of a PNG with transparency, as large as `scan`: to be laid over it")
    target: str = Field(description="the class that the map explains", examples=["glioma"])
    agreement: float | None = Field(
        description="consensus only: whether the networks' maps agree, 0 to 1; null where fewer than two maps count"
    )
    map: RawMap | None = Field(description="with maps=true")


class Prediction(BaseModel):
    """A network's prediction for one image."""

    label: str = Field(description="the most probable class", examples=["glioma"])
    probabilities: dict[str, float] = Field(
        description="calibrated probability of every class; they sum to 1",
        examples=[{"glioma": 0.94, "meningioma": 0.04, "notumor": 0.01, "pituitary": 0.01}],
    )
    set: list[str] = Field(
        description="the classes that can't be ruled out: for images like the training images, the share of sets that "
        "hold the true class is `coverage`",
        examples=[["glioma"]],
    )
    coverage: float = Field(description="the share of sets that hold the true class", examples=[0.95])
    abstain: bool = Field(description="whether the label should not be relied on; `reasons` says why")
    reasons: list[AbstentionReason] = Field(description="why the label should not be relied on; empty unless `abstain`")
    model: str = Field(description="the network that answered", examples=["efficientnet_b0"])
    model_version: str = Field(description=MODEL_VERSION, examples=["89abcdef0123"])
    dataset: str = Field(description=DATASET, examples=["phantom"])
    data_version: str = Field(description=DATA_VERSION, examples=["0123456789ab"])
    synthetic: bool = Field(description=SYNTHETIC)
    unlike_training: GateScore | None = Field(description="null where the network has no gate")
    image: ImageInfo = Field(description="the image's size, as sent and as the network's input")
    notice: str = Field(default=NOTICE, description="what the answer must not be used for")


class Answer(Prediction):
    """The answer of POST /predict."""

    request_id: str = Field(description="identifies this request, for POST /feedback", examples=[REQUEST_ID])
    milliseconds: dict[str, float] = Field(
        description="time for the image, by part: `explain` computes the maps, `draw` makes PNGs of them and of the "
        "scan; loading a network at its first request doesn't count",
        examples=[{"network": 5.0, "read": 2.1, "explain": 1.2, "draw": 8.4}],
    )
    explanations: dict[str, Explanation] = Field(description="the requested maps, by method")
    scan: str | None = Field(description="base64 of a PNG of the network's input; null with explain=none")


class BatchItem(BaseModel):
    """One file of a batch: either `prediction` or `error`."""

    index: int = Field(description="place in the request, from 0")
    request_id: str | None = Field(
        default=None,
        description="identifies this image, for POST /feedback; only with `prediction`",
        examples=[f"{REQUEST_ID}/0"],
    )
    prediction: Prediction | None = Field(default=None, description="the prediction, if the file can be read")
    error: Error | None = Field(default=None, description="why the file can't be read or used")


class BatchAnswer(BaseModel):
    """The answer of POST /predict_batch, in the order of the files sent."""

    request_id: str = Field(
        description="identifies the request; POST /feedback takes that of a prediction", examples=[REQUEST_ID]
    )
    predictions: list[BatchItem] = Field(description="one for each file")
    milliseconds: dict[str, float] = Field(description="time spent on all files together, by part")


class Feedback(BaseModel):
    """The confirmed class of an image."""

    request_id: str = Field(
        description="of an answer of POST /predict, or of one of the `predictions` of a batch",
        examples=[REQUEST_ID],
        max_length=64,
    )
    label: str = Field(description="the confirmed class", examples=["glioma"], max_length=64)


class ModelInfo(BaseModel):
    """One packaged network."""

    name: str = Field(description="the value of the field `model`", examples=["efficientnet_b0"])
    model_version: str = Field(description=MODEL_VERSION, examples=["89abcdef0123"])
    size_px: int = Field(description="side of the square that is its input")
    size_mb: float = Field(description="of the served graph on disk, in 10^6 bytes")
    precision: Literal["fp32", "bf16", "int8"] = Field(description="number format that it runs in")
    test: dict[str, dict[str, float] | float] = Field(description="scores on test images, with 95 % intervals")


class Models(BaseModel):
    """The packaged networks and what can be requested of them."""

    default: str = Field(description="the network that answers where none is named", examples=["efficientnet_b0"])
    models: list[ModelInfo] = Field(description="the networks to choose from")
    classes: list[str] = Field(description="the classes that an image may be assigned to", examples=[CLASSES])
    coverage: float = Field(description="the share of sets that hold the true class", examples=[0.95])
    dataset: str = Field(description=DATASET, examples=["phantom"])
    data_version: str = Field(description=DATA_VERSION, examples=["0123456789ab"])
    synthetic: bool = Field(description=SYNTHETIC)
    methods: list[str] = Field(description="the values of `explain`, besides none")
