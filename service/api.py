"""The REST API: routes, the form of requests and answers, and how mistakes are answered."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from mri.errors import UserError
from mri.images import ImageError
from service.predictor import Predictor, UnknownModelError

NOTICE = "Research software, not a medical device: not for diagnosis."


class Error(BaseModel):
    """Every answer that is not 2xx."""

    error: str = Field(description="a short name of what is wrong", examples=["unreadable_image"])
    detail: str = Field(description="one sentence that says what to change")
    request_id: str


class Answer(BaseModel):
    """What a network says of one image."""

    request_id: str
    label: str = Field(description="the most probable class", examples=["glioma"])
    probabilities: dict[str, float] = Field(description="calibrated probability of every class; they sum to 1")
    model: str = Field(description="the network that answered", examples=["efficientnet_b0"])
    dataset: str = Field(description="the data that the network was trained on", examples=["phantom"])
    data_version: str = Field(description="identifies the training data exactly")
    milliseconds: dict[str, float] = Field(description="time spent, by part")
    notice: str = NOTICE


class Models(BaseModel):
    """The packaged networks."""

    default: str
    models: list[str]
    classes: list[str]
    dataset: str
    data_version: str


def create(predictor: Predictor) -> FastAPI:
    """The application over one predictor."""
    app = FastAPI(
        title="Brain-tumour MRI classifier",
        description=NOTICE,
        version=predictor.about["data_version"],
        openapi_url="/docs.json",
        docs_url=None,
        redoc_url=None,
    )
    errors: dict[int | str, dict[str, Any]] = {400: {"model": Error}, 404: {"model": Error}, 422: {"model": Error}}

    @app.post("/predict", response_model=Answer, responses=errors)
    async def predict(
        image: Annotated[UploadFile, File(description="one MRI slice: PNG, JPEG, DICOM or NIfTI")],
        model: Annotated[str, Form(description="which network; the winner when left out")] = "",
    ) -> Answer:
        """Classify one MRI slice."""
        data = await image.read()
        prediction = await run_in_threadpool(predictor.predict, data, "image", model)
        return Answer(
            request_id=str(uuid.uuid4()),
            label=prediction.label,
            probabilities=prediction.probabilities,
            model=prediction.model,
            dataset=predictor.about["dataset"],
            data_version=predictor.about["data_version"],
            milliseconds=prediction.milliseconds,
        )

    @app.get("/models", response_model=Models)
    def models() -> Models:
        """Which networks can be asked for."""
        about = predictor.about
        return Models(default=about["winner"], **{name: about[name] for name in Models.model_fields if name in about})

    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    return app


def _error(status: int, name: str, detail: str) -> JSONResponse:
    return JSONResponse(Error(error=name, detail=detail, request_id=str(uuid.uuid4())).model_dump(), status)


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, UnknownModelError):
        return _error(404, "unknown_model", str(error))
    if isinstance(error, ImageError):
        return _error(422, "unreadable_image", str(error))
    return _error(400, "bad_request", str(error))


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return _error(400, "bad_request", f"{where}: {first['msg']}")
