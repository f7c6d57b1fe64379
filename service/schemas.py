"""The JSON of requests and answers, as /docs.json describes it."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NamedTuple

import bentoml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic.json_schema import GetJsonSchemaHandler, JsonSchemaValue
from pydantic_core import CoreSchema, core_schema
from starlette.requests import Request

from mri.inference.methods import SHOWN_METHODS
from mri.inference.package import ReasonCode
from service.context import state

# Examples and descriptions that several schemas share.
REQUEST_ID = "6f1d3c1e-52a5-4d0b-9a35-8a2f3b1c7e90"
CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]
DATASET = "the data that the networks were trained on"
DATA_VERSION = "identifies the training data exactly"
SYNTHETIC = "whether the networks were trained on drawn images only, and on no scans"
MODEL_VERSION = "identifies the network's files: each training has its own"
GATE_FAILURES = (
    "kinds of strange images that this network's gate lets through more often than it may, so that its answers to them "
    "mean nothing; empty where the gate holds"
)
NOTICE = "Research software, not a medical device: not for diagnosis."


class Upload(NamedTuple):
    """A file of a request, in memory. name: as the client calls it; "" if it doesn't."""

    data: bytes
    name: str

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.is_instance_schema(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "file", "format": "binary"}  # what BentoML's clients send files for


def _text(value: Any) -> Any:
    """Return a text without the quotes of JSON, in which BentoML's clients send the fields of a form."""
    return _json(value) if isinstance(value, str) and value.startswith('"') else value


def _names(value: Any) -> Any:
    """Return the names in fields that hold one name, several separated by commas, or JSON's list of them."""
    if not isinstance(value, list):
        return value
    names: list[Any] = []
    for part in value:
        told = _json(part) if isinstance(part, str) and part.startswith(("[", '"')) else part
        for name in told if isinstance(told, list) else [told]:
            names += [one.strip() for one in name.split(",") if one.strip()] if isinstance(name, str) else [name]
    return names


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


Text = Annotated[str, BeforeValidator(_text)]
Names = Annotated[list[str], BeforeValidator(_names)]


class Inputs(bentoml.IODescriptor):
    """The fields of a request to the API; `service.inputs` has read and checked them before BentoML asks for them."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Inputs:
        return state(request.scope).pop("inputs")

    @classmethod
    def is_form(cls) -> bool:
        """Return whether the fields are sent as multipart/form-data: there are files among them."""
        return any(field.annotation in (Upload, list[Upload]) for field in cls.model_fields.values())


class PredictInputs(Inputs):
    """The fields of POST /predict."""

    image: Upload = Field(description="one MRI slice: PNG, JPEG, DICOM or NIfTI")
    model: Text = Field("", description="the network; the default is the winner", examples=["efficientnet_b0"])
    explain: Names = Field(
        [],
        description=f"none (the default) or methods that GET /models lists: {', '.join(SHOWN_METHODS)}, consensus; "
        "several are separated by commas or sent in several fields",
        examples=[["gradcam,consensus"]],
    )
    target: Text = Field(
        "", description="the class that maps explain; the default is the answer's, with consensus that of all networks"
    )
    maps: bool = Field(False, description="whether to send the raw maps too")
    again: bool = Field(
        False,
        description="whether this network was asked about this image before, for example for another map: drift "
        "counts an image once, so it leaves such requests out",
    )


class BatchInputs(Inputs):
    """The fields of POST /predict_batch."""

    images: list[Upload] = Field(description="MRI slices: PNG, JPEG, DICOM or NIfTI")
    model: Text = Field("", description="the network; the default is the winner", examples=["efficientnet_b0"])


class SeriesInputs(Inputs):
    """The fields of POST /predict_series."""

    images: list[Upload] = Field(
        description="one series: a zip, a volume (NIfTI), a DICOM file of several frames, or its files"
    )
    model: Text = Field("", description="the network; the default is the winner", examples=["efficientnet_b0"])
    maps: bool = Field(False, description="whether to send each slice and its Grad-CAM as pictures too")


class Feedback(Inputs):
    """The confirmed class of an image."""

    request_id: str = Field(
        description="of an answer of POST /predict, or of one of the `predictions` of a batch",
        examples=[REQUEST_ID],
        max_length=64,
    )
    label: str = Field(description="the confirmed class", examples=["glioma"], max_length=64)


class NoInputs(Inputs):
    """A request without fields."""


class MonitoringQuery(BaseModel):
    """The parameters of GET /api/monitoring."""

    hours: float = Field(24, gt=0, le=24 * 366, description="how far to look back")
    model: str = Field("", max_length=64, description="the network; all when left out")


class MonitoringFigures(BaseModel, extra="allow"):
    """The figures of the dashboard: counts, latencies, classes, confidence, drift, accuracy and recent errors."""


class Error(BaseModel):
    """The body of every answer that is not 2xx."""

    error: str = Field(description="a short name of what is wrong", examples=["unreadable_image"])
    detail: str = Field(
        description="one sentence that says what to change",
        examples=["image: a PDF document: a report can't be classified: export its scan as DICOM or PNG"],
    )
    request_id: str = Field(description="identifies this request", examples=[REQUEST_ID])


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

    score: float = Field(
        description="log-odds that the image is unlike the training images; higher is stranger", examples=[-6.2]
    )
    threshold: float = Field(
        description="an image that scores higher counts as unlike the training images", examples=[-1.1]
    )
    failures: list[str] = Field(description=GATE_FAILURES, examples=[["motion"]])


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


class MapWorth(BaseModel):
    """What maps of one method are worth, measured on outlined tumours of unseen patients."""

    hit_rate: float | None = Field(
        description="of maps of outlined tumours of unseen patients, the share whose strongest point lies in the "
        "tumour; null, as the next three, where the package doesn't know it",
        examples=[0.62],
    )
    chance: float | None = Field(description="the same share for a random point", examples=[0.02])
    n: int | None = Field(description="the number of those tumours", examples=[118])
    passed_randomisation: bool | None = Field(
        description="whether maps of networks with random weights differ; null where it wasn't tested or is undecided"
    )


class Explanation(MapWorth):
    """An explanation map."""

    overlay: str = Field(description="base64 of a PNG with transparency, as large as `scan`: to be laid over it")
    target: str = Field(description="the class that the map explains", examples=["glioma"])
    agreement: float | None = Field(
        description="consensus only: whether the networks' maps agree, 0 to 1; null where fewer than two maps count"
    )
    note: str | None = Field(description="what else must be said of the map: that it is empty")
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
    unlike_training: GateScore = Field(description="what the gate makes of the image")
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

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class BatchAnswer(BaseModel):
    """The answer of POST /predict_batch, in the order of the files sent."""

    request_id: str = Field(
        description="identifies the request; POST /feedback takes that of a prediction", examples=[REQUEST_ID]
    )
    predictions: list[BatchItem] = Field(description="one for each file")
    milliseconds: dict[str, float] = Field(description="time spent on all files together, by part")


class SeriesSlice(BaseModel):
    """The answer for one slice of a series."""

    label: str = Field(description="the most probable class", examples=["glioma"])
    probabilities: dict[str, float] = Field(description="calibrated probability of every class")
    abstain: bool = Field(description="whether the label should not be relied on")
    position: float | None = Field(description="mm along the normal of the slices; null where the files don't tell")
    scan: str | None = Field(description="with maps=true: base64 of a PNG of the network's input")
    overlay: str | None = Field(
        description="with maps=true: base64 of a PNG, the Grad-CAM of the verdict's class, to be laid over `scan`; "
        "null where the package has no maps"
    )


class LeftOutFiles(BaseModel):
    """Files or slices of a series that were not used."""

    reason: str = Field(description="why", examples=["no head in it"])
    count: int = Field(description="how many")


class SeriesAnswer(MapWorth):
    """The answer of POST /predict_series: the verdict, what it is made of, and what the slices' maps are worth."""

    request_id: str = Field(description="identifies this series, for POST /feedback", examples=[REQUEST_ID])
    label: str = Field(description="the verdict: the most probable class of the series", examples=["glioma"])
    probabilities: dict[str, float] = Field(description="of the series: the slices' probabilities, pooled")
    fitted: bool = Field(description="whether the pooling was fitted on validation patients; if not, it is the mean")
    abstain: bool = Field(description="whether the label should not be relied on: so if its first key slice abstains")
    reasons: list[AbstentionReason] = Field(description="why that slice abstains, or that it names another class")
    key_slices: list[int] = Field(description="the slices that speak most for the verdict, from 0, best first")
    slices: list[SeriesSlice] = Field(description="the answers along the series, in anatomical order")
    plane: str = Field(description="axial, coronal or sagittal; empty where the files don't tell", examples=["axial"])
    spacing: float | None = Field(description="mm between neighbouring slices; null where unknown")
    left_out: list[LeftOutFiles] = Field(description="what was not used")
    notes: list[str] = Field(description="what had to be assumed")
    model: str = Field(description="the network that answered", examples=["efficientnet_b0"])
    model_version: str = Field(description=MODEL_VERSION, examples=["89abcdef0123"])
    dataset: str = Field(description=DATASET, examples=["phantom"])
    data_version: str = Field(description=DATA_VERSION, examples=["0123456789ab"])
    synthetic: bool = Field(description=SYNTHETIC)
    milliseconds: dict[str, float] = Field(description="time spent on the series, by part")
    notice: str = Field(default=NOTICE, description="what the answer must not be used for")


class ModelInfo(BaseModel):
    """One packaged network."""

    name: str = Field(description="the value of the field `model`", examples=["efficientnet_b0"])
    model_version: str = Field(description=MODEL_VERSION, examples=["89abcdef0123"])
    size_px: int = Field(description="side of the square that is its input")
    size_mb: float = Field(description="of the served graph on disk, in 10^6 bytes")
    precision: Literal["fp32", "bf16", "int8"] = Field(description="number format that it runs in")
    self_test: str = Field(
        description="passed, or what differs on this processor: it then runs in a safer precision, or is refused",
        examples=["passed"],
    )
    gate_failures: list[str] = Field(description=GATE_FAILURES, examples=[["motion"]])
    test: dict[str, dict[str, float] | float] = Field(description="scores on test images, with 95 % intervals")
    answers: dict[str, Any] = Field(
        description="share of test images answered, and of those answered right, with 95 % intervals; all and by class"
    )


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
