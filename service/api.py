"""The REST API: routes, and how mistakes are answered."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from mri.base.errors import UserError
from mri.data.images import ImageError
from mri.inference.methods import SHOWN_METHODS
from mri.inference.overlays import overlay, png
from mri.inference.package import UnknownModelError
from mri.inference.runtime import disk_size_mb, served_precision, usable_cores
from service import pages, schemas
from service.answers import UnknownPath, error_answer, http_error, image_id, request_id
from service.explainer import Explained, UnknownMethodError
from service.limits import RETRY_AFTER, BusyError, Limits, Slots
from service.monitoring import Monitoring, StoreUnavailableError
from service.monitoring.watch import Watch
from service.predictor import Clock, Prediction, Predictor
from service.security import Access, SecurityHeaders
from service.settings import Settings

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Error, "description": text}
    for status, text in {
        400: "The request has a wrong or missing field.",
        401: "A key is needed.",
        403: "A page of another website asks.",
        404: "There is no such model.",
        408: "The body took too long to arrive.",
        413: "The body is too large.",
        415: "The body isn't multipart/form-data.",
        422: "The image can't be read or used.",
        431: "The headers are too large.",
        500: schemas.FAILURE["description"],
        503: "Too much is under way, it took too long, or the model can't be loaded.",
    }.items()
}
DICOM_NAMES = (".dcm", ".dicom")
# What `explain` may name without costing more than a prediction.
CHEAP = {"none", "gradcam"}

Images = Annotated[UploadFile, File(description="one MRI slice: PNG, JPEG, DICOM or NIfTI")]
Model = Annotated[str, Form(description="which network; the winner when left out", examples=["efficientnet_b0"])]
Explain = Annotated[
    list[str],
    Form(
        description=f"none (the default) or methods that GET /models lists: {', '.join(SHOWN_METHODS)}, "
        "consensus; several separated by commas or in fields of their own",
        examples=[["gradcam,consensus"]],
    ),
]
Maps = Annotated[bool, Form(description="whether to send the raw maps too")]
Again = Annotated[
    bool,
    Form(
        description="whether this network was asked about this image before, as for one more map: drift, which is "
        "measured on images of their own, leaves such requests out"
    ),
]
FeedbackTaker = Callable[[str, str], Awaitable[bool]]


# By pydantic's kinds of error, where its own words don't tell what to send.
INSTEAD = {
    "missing": "is missing: send it",
    "value_error": "should be a file, sent with a file name",  # FastAPI's, and no other of our fields has one
    "json_invalid": "should be JSON",
    "model_attributes_type": "should be a JSON object",
    "string_type": "should be text",
    "bool_type": "should be true or false",
    "bool_parsing": "should be true or false",
    "float_parsing": "should be a number",
}


class BadRequestError(UserError):
    """A field of the request has a wrong value."""


class UnknownRequestError(UserError):
    """Feedback on a request that isn't known."""


# What a user's mistake is answered with. Any other UserError is the service's own fault: a model that can't be loaded.
MISTAKES: list[tuple[type[UserError], int, str]] = [
    (UnknownModelError, 404, "unknown_model"),
    (UnknownRequestError, 404, "unknown_request"),
    (UnknownMethodError, 400, "bad_request"),
    (BadRequestError, 400, "bad_request"),
    (ImageError, 422, "unreadable_image"),
    (StoreUnavailableError, 503, "store_unavailable"),
]


def create(predictor: Predictor, settings: Settings | None = None) -> FastAPI:
    """The application over one predictor, with its limits and its monitoring; settings: of the environment by default.

    What the parts tell each other of a request: `request.state.request_id`; `request.state.model`, which network was
    asked, once that is known; `request.state.predictions`, a list of what was found for each image, `Prediction` or
    `ImageError`; `request.state.again`, whether the image was asked about before; and, where an error was answered,
    `request.state.error`, its short name.
    """
    settings = settings or Settings.read()
    monitoring = Monitoring(predictor, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        monitoring.start()
        yield
        await run_in_threadpool(monitoring.stop)

    app = FastAPI(
        title="Brain-tumour MRI classifier",
        description=schemas.NOTICE,
        version=predictor.about["data_version"],
        openapi_url="/docs.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.working = Slots(2 * usable_cores(), settings.queue)
    app.state.explaining = Slots(settings.explaining, settings.explaining)
    app.state.loading = Slots(1, settings.queue)
    _add_predict(app, predictor)
    _add_predict_batch(app, predictor)
    _add_feedback(app, predictor, monitoring.feedback)
    _add_models(app, predictor)
    app.include_router(monitoring.router())
    app.include_router(pages.router())
    app.router.routes.append(UnknownPath())
    app.add_exception_handler(UserError, _user_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(BusyError, _busy)
    app.add_middleware(Limits, settings=settings)  # the last one added is the first to see a request
    app.add_middleware(Access, settings=settings)
    if settings.origins:  # around Access, so that an allowed page can read that it needs a key
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.origins), allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Watch, monitoring=monitoring)
    return app


def _add_predict(app: FastAPI, predictor: Predictor) -> None:
    @app.post("/predict", response_model=schemas.Answer, responses=ERRORS)
    async def predict(
        request: Request,
        image: Images,
        model: Model = "",
        explain: Explain = [],  # noqa: B006  (FastAPI copies it)
        maps: Maps = False,
        again: Again = False,
    ) -> schemas.Answer:
        """Classify one MRI slice, and explain it if asked to."""
        _note_model(request, predictor, model)
        request.state.again = again
        await _load(app, predictor, model)
        data = await image.read()
        wanted = [name.strip() for part in explain for name in part.split(",") if name.strip()]
        slots = app.state.explaining if set(wanted) - CHEAP else app.state.working
        async with slots.taken():
            return await run_in_threadpool(_answer, request, predictor, data, _called(image), model, wanted, maps)


def _note_model(request: Request, predictor: Predictor, model: str) -> None:
    """Let the monitoring know who was asked, whatever comes of it; a name that isn't packaged is the asker's text."""
    name = model or predictor.package.default
    if name in predictor.package.names:
        request.state.model = name


async def _load(app: FastAPI, predictor: Predictor, model: str) -> None:
    """Load a network that isn't yet, before a place is taken that those who ask for a loaded one may be waiting for.

    Who waits for the same network holds no thread.
    """
    if not predictor.package.is_loaded(model):
        async with app.state.loading.taken():
            await run_in_threadpool(predictor.package.network, model)


def _answer(
    request: Request, predictor: Predictor, data: bytes, name: str, model: str, explain: list[str], maps: bool
) -> schemas.Answer:
    prediction = predictor.predict(data, name, model, explain)
    request.state.predictions = [prediction]
    clock = Clock(prediction.milliseconds)
    explanations = {name: _explanation(made, maps) for name, made in prediction.explanations.items()}
    scan = _base64(png(prediction.pixels)) if explanations else None
    clock.lap("draw")
    return schemas.Answer(
        request_id=request_id(request.scope),
        **_fields(prediction, predictor),
        milliseconds=clock.milliseconds,
        explanations=explanations,
        scan=scan,
    )


def _add_predict_batch(app: FastAPI, predictor: Predictor) -> None:
    # What is unset is left out: an item has a prediction or an error. What is null is said.
    @app.post("/predict_batch", response_model=schemas.BatchAnswer, responses=ERRORS, response_model_exclude_unset=True)
    async def predict_batch(
        request: Request,
        images: Annotated[list[UploadFile], File(description="MRI slices: PNG, JPEG, DICOM or NIfTI")],
        model: Model = "",
    ) -> schemas.BatchAnswer:
        """Classify several MRI slices; a bad file doesn't fail the others."""
        _note_model(request, predictor, model)
        await _load(app, predictor, model)
        files = [(await image.read(), _called(image)) for image in images]
        async with app.state.working.taken():
            found, milliseconds = await run_in_threadpool(predictor.predict_batch, files, model)
        request.state.predictions = found
        return schemas.BatchAnswer(
            request_id=request_id(request.scope),
            predictions=[_item(request, predictor, i, one) for i, one in enumerate(found)],
            milliseconds=milliseconds,
        )


def _item(request: Request, predictor: Predictor, index: int, found: Prediction | ImageError) -> schemas.BatchItem:
    if isinstance(found, ImageError):
        return schemas.BatchItem(index=index, error=_error(request, "unreadable_image", str(found)))
    prediction = schemas.Prediction(**_fields(found, predictor))
    return schemas.BatchItem(index=index, request_id=image_id(request.scope, index), prediction=prediction)


def _add_feedback(app: FastAPI, predictor: Predictor, take: FeedbackTaker) -> None:
    @app.post("/feedback", status_code=204, response_class=Response, responses=schemas.REFUSALS)
    async def feedback(said: schemas.Feedback) -> None:
        """Tell the confirmed class of an image that was predicted; without a monitoring store no request is known."""
        classes = predictor.about["classes"]
        if said.label not in classes:
            raise BadRequestError(f"label: {said.label!r} is not one of {', '.join(classes)}")
        if not await take(said.request_id, said.label):
            raise UnknownRequestError("no answered image has this request_id (in a batch, every image has its own)")


def _add_models(app: FastAPI, predictor: Predictor) -> None:
    about, package = predictor.about, predictor.package

    @app.get("/models", response_model=schemas.Models, responses=schemas.REFUSALS)
    def models() -> schemas.Models:
        """Which networks can be asked for, and how."""
        return schemas.Models(
            default=package.default,
            models=[
                schemas.ModelInfo(
                    name=name,
                    model_version=package.version(name),
                    size_px=card["input"]["size"],
                    size_mb=disk_size_mb(package.folder / "models" / name, served_precision(card)),
                    precision=served_precision(card),
                    test=about["test"][name],
                )
                for name, card in package.cards.items()
            ],
            classes=package.classes,
            coverage=package.coverage,
            dataset=about["dataset"],
            data_version=about["data_version"],
            synthetic=about["synthetic"],
            methods=predictor.explainer.methods,
        )


def _fields(prediction: Prediction, predictor: Predictor) -> dict[str, Any]:
    """What /predict and /predict_batch both say of an image."""
    said, about = prediction.opinion, predictor.about
    gate = None
    if said.score is not None and said.threshold is not None:
        gate = schemas.Gate(score=said.score, threshold=said.threshold)
    return {
        "label": said.label,
        "probabilities": said.probabilities,
        "set": said.members,
        "coverage": predictor.package.coverage,
        "abstain": bool(prediction.reasons),
        "reasons": [schemas.Reason(code=reason.code, detail=reason.detail) for reason in prediction.reasons],
        "model": said.model,
        "model_version": predictor.package.version(said.model),
        **{name: about[name] for name in ("dataset", "data_version", "synthetic")},
        "unlike_training": gate,
        "image": schemas.ImageInfo(width=prediction.width, height=prediction.height, size=len(prediction.pixels)),
        "notice": schemas.NOTICE,
    }


def _explanation(made: Explained, maps: bool) -> schemas.Explanation:
    values = made.map.astype("<f4")
    raw = schemas.RawMap(shape=list(values.shape), data=_base64(values.tobytes())) if maps else None
    return schemas.Explanation(
        overlay=_base64(png(overlay(made.map))), target=made.target, agreement=made.agreement, map=raw
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _called(image: UploadFile) -> str:
    """What messages call the image: never by its own name, which may be a patient's, but by the kind it claims."""
    return "image.dcm" if (image.filename or "").lower().endswith(DICOM_NAMES) else "image"


def _error(request: Request, name: str, detail: str) -> schemas.Error:
    return schemas.Error(error=name, detail=detail, request_id=request_id(request.scope))


async def _busy(request: Request, error: Exception) -> JSONResponse:
    detail = "too much is under way: try again soon"
    return error_answer(request.scope, 503, "busy", detail, RETRY_AFTER)


async def _user_error(request: Request, error: Exception) -> JSONResponse:
    for kind, status, name in MISTAKES:
        if isinstance(error, kind):
            return error_answer(request.scope, status, name, str(error))
    return error_answer(request.scope, 503, "model_unavailable", str(error))


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_answer(request.scope, 400, "bad_request", _in_a_sentence(error.errors()[0]))


def _in_a_sentence(wrong: Any) -> str:
    """What pydantic found wrong, as a sentence that says what to send."""
    kind, message = wrong["type"], wrong["msg"]
    where = [] if kind == "json_invalid" else wrong["loc"][1:]  # of broken JSON it tells the place among the characters
    name = ".".join(str(part) for part in where) or "the body"
    _, should, rest = message.partition(" should ")
    return f"{name} {INSTEAD.get(kind) or (should.lstrip() + rest if should else f'is wrong: {message}')}"
