"""The REST API: the routes for predictions, feedback and models."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import Response

from mri.data.images import ImageError
from mri.inference.methods import SHOWN_METHODS
from mri.inference.overlays import overlay, png
from mri.inference.runtime import disk_size_mb, served_precision, usable_cores
from service import pages, schemas
from service.context import image_id, request_id
from service.errors import BadRequestError, UnknownRequestError, add_handlers
from service.explainer import ExplanationMap
from service.limits import Limits, Slots
from service.monitoring.middleware import RecordPredictions
from service.monitoring.monitor import Monitor
from service.predictor import Clock, ImageResult, Predictor
from service.security import Access, SecurityHeaders
from service.settings import Settings

ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": schemas.Error, "description": text}
    for status, text in {
        400: "A field of the request is wrong or missing.",
        401: "A key is needed.",
        403: "A page of another website sent the request.",
        404: "There is no such model.",
        408: "The body took too long to arrive.",
        413: "The body is too large.",
        415: "The body isn't multipart/form-data.",
        422: "The image can't be read or used.",
        431: "The headers are too large.",
        500: schemas.FAILURE["description"],
        503: "Too many requests are in progress, it took too long, or the model can't be loaded.",
    }.items()
}
DICOM_NAMES = (".dcm", ".dicom")
# Values of `explain` that cost no more than a prediction.
CHEAP = {"none", "gradcam"}

ImageFile = Annotated[UploadFile, File(description="one MRI slice: PNG, JPEG, DICOM or NIfTI")]
Model = Annotated[str, Form(description="the network; the default is the winner", examples=["efficientnet_b0"])]
Explain = Annotated[
    list[str],
    Form(
        description=f"none (the default) or methods that GET /models lists: {', '.join(SHOWN_METHODS)}, "
        "consensus; several are separated by commas or sent in several fields",
        examples=[["gradcam,consensus"]],
    ),
]
Maps = Annotated[bool, Form(description="whether to send the raw maps too")]
Again = Annotated[
    bool,
    Form(
        description="whether this network was asked about this image before, for example for another map: drift "
        "counts an image once, so it leaves such requests out"
    ),
]
TakeFeedback = Callable[[str, str], Awaitable[bool]]


def create(predictor: Predictor, settings: Settings) -> FastAPI:
    """Return the application of one worker: the API, its limits, its pages and its monitoring."""
    monitor = Monitor(predictor, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        monitor.start()
        yield
        await run_in_threadpool(monitor.stop)

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
    app.state.explaining = Slots(settings.explanations, settings.explanations)
    app.state.loading = Slots(1, settings.queue)
    _add_predict(app, predictor)
    _add_predict_batch(app, predictor)
    _add_feedback(app, predictor, monitor.feedback)
    _add_models(app, predictor)
    app.include_router(monitor.router())
    app.include_router(pages.router())
    add_handlers(app)
    app.add_middleware(Limits, settings=settings)  # the last one added is the first to see a request
    app.add_middleware(Access, settings=settings)
    if settings.allowed_origins:  # around Access, so that an allowed page can read that it needs a key
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.allowed_origins), allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RecordPredictions, monitor=monitor)
    return app


def _add_predict(app: FastAPI, predictor: Predictor) -> None:
    @app.post("/predict", response_model=schemas.Answer, responses=ERRORS)
    async def predict(
        request: Request,
        image: ImageFile,
        model: Model = "",
        explain: Explain = [],  # noqa: B006  (FastAPI copies it)
        maps: Maps = False,
        again: Again = False,
    ) -> schemas.Answer:
        """Classify one MRI slice, and explain the answer if asked to."""
        _note_model(request, predictor, model)
        request.state.again = again
        await _load(app, predictor, model)
        data = await image.read()
        wanted = [name.strip() for part in explain for name in part.split(",") if name.strip()]
        slots = app.state.explaining if set(wanted) - CHEAP else app.state.working
        async with slots.taken():
            return await run_in_threadpool(_answer, request, predictor, data, _public_name(image), model, wanted, maps)


def _note_model(request: Request, predictor: Predictor, model: str) -> None:
    """Note which network was asked, for the monitoring. A name that isn't packaged is a client's text: not kept."""
    name = model or predictor.package.default
    if name in predictor.package.names:
        request.state.model = name


async def _load(app: FastAPI, predictor: Predictor, model: str) -> None:
    """Load a network that isn't loaded yet.

    This happens before a slot is taken, so that it delays no request for a loaded network. Requests that wait for the
    same network hold no thread.
    """
    if not predictor.package.is_loaded(model):
        async with app.state.loading.taken():
            await run_in_threadpool(predictor.package.network, model)


def _answer(
    request: Request, predictor: Predictor, data: bytes, name: str, model: str, explain: list[str], maps: bool
) -> schemas.Answer:
    result = predictor.predict(data, name, model, explain)
    request.state.predictions = [result]
    clock = Clock(result.milliseconds)
    explanations = {name: _explanation(each, maps) for name, each in result.explanations.items()}
    scan = _base64(png(result.pixels)) if explanations else None
    clock.lap("draw")
    return schemas.Answer(
        request_id=request_id(request.scope),
        **_fields(result, predictor),
        milliseconds=clock.milliseconds,
        explanations=explanations,
        scan=scan,
    )


def _add_predict_batch(app: FastAPI, predictor: Predictor) -> None:
    # Unset fields are left out, as an item has a prediction or an error; fields that are null stay.
    @app.post("/predict_batch", response_model=schemas.BatchAnswer, responses=ERRORS, response_model_exclude_unset=True)
    async def predict_batch(
        request: Request,
        images: Annotated[list[UploadFile], File(description="MRI slices: PNG, JPEG, DICOM or NIfTI")],
        model: Model = "",
    ) -> schemas.BatchAnswer:
        """Classify several MRI slices; a bad file doesn't fail the others."""
        _note_model(request, predictor, model)
        await _load(app, predictor, model)
        files = [(await image.read(), _public_name(image)) for image in images]
        async with app.state.working.taken():
            results, milliseconds = await run_in_threadpool(predictor.predict_batch, files, model)
        request.state.predictions = results
        return schemas.BatchAnswer(
            request_id=request_id(request.scope),
            predictions=[_item(request, predictor, i, result) for i, result in enumerate(results)],
            milliseconds=milliseconds,
        )


def _item(request: Request, predictor: Predictor, index: int, result: ImageResult | ImageError) -> schemas.BatchItem:
    if isinstance(result, ImageError):
        error = schemas.Error(error="unreadable_image", detail=str(result), request_id=request_id(request.scope))
        return schemas.BatchItem(index=index, error=error)
    prediction = schemas.Prediction(**_fields(result, predictor))
    return schemas.BatchItem(index=index, request_id=image_id(request.scope, index), prediction=prediction)


def _add_feedback(app: FastAPI, predictor: Predictor, take: TakeFeedback) -> None:
    @app.post("/feedback", status_code=204, response_class=Response, responses=schemas.REFUSALS)
    async def feedback(feedback: schemas.Feedback) -> None:
        """Send the confirmed class of an image that was predicted."""
        classes = predictor.about["classes"]
        if feedback.label not in classes:
            raise BadRequestError(f"label: {feedback.label!r} is not one of {', '.join(classes)}")
        if not await take(feedback.request_id, feedback.label):
            raise UnknownRequestError("no answered image has this request_id (in a batch, every image has its own)")


def _add_models(app: FastAPI, predictor: Predictor) -> None:
    about, package = predictor.about, predictor.package

    @app.get("/models", response_model=schemas.Models, responses=schemas.REFUSALS)
    def models() -> schemas.Models:
        """List the networks and what they can be asked for."""
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


def _fields(result: ImageResult, predictor: Predictor) -> dict[str, Any]:
    """Return the fields that /predict and /predict_batch both answer for an image."""
    opinion, about = result.opinion, predictor.about
    gate = None
    if opinion.score is not None and opinion.threshold is not None:
        gate = schemas.GateScore(score=opinion.score, threshold=opinion.threshold)
    return {
        "label": opinion.label,
        "probabilities": opinion.probabilities,
        "set": opinion.members,
        "coverage": predictor.package.coverage,
        "abstain": bool(result.reasons),
        "reasons": [schemas.AbstentionReason(code=reason.code, detail=reason.detail) for reason in result.reasons],
        "model": opinion.model,
        "model_version": predictor.package.version(opinion.model),
        **{name: about[name] for name in ("dataset", "data_version", "synthetic")},
        "unlike_training": gate,
        "image": schemas.ImageInfo(width=result.width, height=result.height, size=len(result.pixels)),
        "notice": schemas.NOTICE,
    }


def _explanation(explanation: ExplanationMap, with_map: bool) -> schemas.Explanation:
    values = explanation.values.astype("<f4")
    return schemas.Explanation(
        overlay=_base64(png(overlay(explanation.values))),
        target=explanation.target,
        agreement=explanation.agreement,
        map=schemas.RawMap(shape=list(values.shape), data=_base64(values.tobytes())) if with_map else None,
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _public_name(image: UploadFile) -> str:
    """Return a name for messages: not the file's own, which may be a patient's, only its type."""
    return "image.dcm" if (image.filename or "").lower().endswith(DICOM_NAMES) else "image"
