"""The API: BentoML's methods for predictions, feedback and models, and all that a request passes on its way there."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import bentoml
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from mri.data.images import ImageError
from mri.inference.map_worth import MapWorth, worth_on
from mri.inference.overlays import overlay, png
from mri.inference.package import in_words
from mri.inference.runtime import disk_size_mb, usable_cores
from service import openapi, pages, schemas
from service.context import image_id, request_id, state
from service.errors import HANDLERS, BadRequestError, UnknownPath, UnknownRequestError, answering_errors, replied
from service.explainer import ExplanationMap
from service.inputs import ReadInputs
from service.limits import Limits, Slots
from service.monitoring.middleware import RecordPredictions
from service.monitoring.monitor import Monitor
from service.predictor import Clock, ImageResult, Predictor, SeriesResult
from service.security import Access, SecurityHeaders
from service.settings import Settings

DICOM_NAMES = (".dcm", ".dicom")
# Values of `explain` that cost no more than a prediction.
CHEAP = {"none", "gradcam"}


class Api:
    """The methods that BentoML serves and its clients find. Their fields have been checked (`service.inputs`)."""

    def __init__(self, predictor: Predictor, monitor: Monitor, settings: Settings):
        self.predictor, self.monitor = predictor, monitor
        self.working = Slots(2 * usable_cores(), settings.queue)
        self.explaining = Slots(settings.explanations, settings.explanations)
        self.loading = Slots(1, settings.queue)

    def __is_ready__(self) -> bool:
        """Answer for /readyz, which says why where the winner failed its self-test on this processor."""
        package = self.predictor.package
        if refusal := package.refusals.get(package.default):
            raise HTTPException(503, str(refusal))
        return True

    @bentoml.api(input_spec=schemas.PredictInputs)
    @answering_errors
    async def predict(
        self,
        ctx: bentoml.Context,
        image: schemas.Upload,
        model: str,
        explain: list[str],
        target: str,
        maps: bool,
        again: bool,
    ) -> schemas.Answer:
        """Classify one MRI slice, and explain the answer if asked to."""
        scope = ctx.request.scope
        self._note_model(scope, model)
        state(scope)["again"] = again
        await self._load(model)
        slots = self.explaining if set(explain) - CHEAP else self.working
        async with slots.taken():
            return await run_in_threadpool(_answer, scope, self.predictor, image, model, explain, target, maps)

    @bentoml.api(input_spec=schemas.BatchInputs)
    @answering_errors
    async def predict_batch(
        self, ctx: bentoml.Context, images: list[schemas.Upload], model: str
    ) -> schemas.BatchAnswer:
        """Classify several MRI slices; a bad file doesn't fail the others."""
        scope = ctx.request.scope
        self._note_model(scope, model)
        await self._load(model)
        files = [(image.data, _public_name(image)) for image in images]
        async with self.working.taken():
            results, milliseconds = await run_in_threadpool(self.predictor.predict_batch, files, model)
        state(scope)["predictions"] = results
        return schemas.BatchAnswer(
            request_id=request_id(scope),
            predictions=[_item(scope, self.predictor, i, result) for i, result in enumerate(results)],
            milliseconds=milliseconds,
        )

    @bentoml.api(input_spec=schemas.SeriesInputs)
    @answering_errors
    async def predict_series(
        self, ctx: bentoml.Context, images: list[schemas.Upload], model: str, maps: bool
    ) -> schemas.SeriesAnswer:
        """Classify the slices of one series, and the series."""
        scope = ctx.request.scope
        self._note_model(scope, model)
        await self._load(model)
        files = [(image.data, _numbered(i, image, len(images) > 1)) for i, image in enumerate(images)]
        async with self.explaining.taken():
            return await run_in_threadpool(_series_answer, scope, self.predictor, files, model, maps)

    @bentoml.api(input_spec=schemas.Feedback)
    @answering_errors
    async def feedback(self, ctx: bentoml.Context, request_id: str, label: str) -> None:
        """Send the confirmed class of an image that was predicted."""
        classes = self.predictor.package.classes
        if label not in classes:
            raise BadRequestError(f"label: {label!r} is not one of {', '.join(classes)}")
        if not await self.monitor.feedback(request_id, label):
            raise UnknownRequestError("no answered image has this request_id (in a batch, every image has its own)")
        return replied(ctx, Response(status_code=204))  # type: ignore[return-value]

    @bentoml.api(input_spec=schemas.NoInputs)
    @answering_errors
    async def models(self, ctx: bentoml.Context) -> schemas.Models:
        """List the networks and what they can be asked for."""
        return models(self.predictor)

    def _note_model(self, scope: Scope, model: str) -> None:
        """Note which network was asked, for the monitoring. A name that isn't packaged is a client's text: not kept."""
        name = model or self.predictor.package.default
        if name in self.predictor.package.names:
            state(scope)["model"] = name

    async def _load(self, model: str) -> None:
        """Load a network that isn't loaded yet.

        This happens before a slot is taken, so that it delays no request for a loaded network. Requests that wait for
        the same network hold no thread.
        """
        if not self.predictor.package.is_loaded(model):
            async with self.loading.taken():
                await run_in_threadpool(self.predictor.package.network, model)


def create(predictor: Predictor, settings: Settings, **options: Any) -> Any:
    """Return BentoML's service: the API, its limits, its pages and its monitoring. options: of `bentoml.service`."""
    monitor = Monitor(predictor, settings)

    class BrainTumourClassifier(Api):
        """The packaged networks for brain-tumour MRI behind one REST API."""

        def __init__(self) -> None:
            super().__init__(predictor, monitor, settings)

    service = bentoml.service(name="brain_tumour_classifier", workers=settings.workers, **options)(
        BrainTumourClassifier
    )
    service.mount_asgi_app(_site(predictor, monitor), path="/")
    # The first one added is the first to see a request.
    service.add_asgi_middleware(RecordPredictions, monitor=monitor)
    service.add_asgi_middleware(SecurityHeaders)
    if settings.allowed_origins:  # around Access, so that an allowed page can read that it needs a key
        origins = list(settings.allowed_origins)
        service.add_asgi_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    service.add_asgi_middleware(Access, settings=settings)
    service.add_asgi_middleware(Limits, settings=settings)
    inputs = {method.route: method.input_spec for method in service.apis.values()}
    service.add_asgi_middleware(ReadInputs, schemas=inputs)
    return service


def _site(predictor: Predictor, monitor: Monitor) -> Starlette:
    """Return what answers besides BentoML's methods: the pages, the dashboard, the schema and GET /models."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        monitor.start()
        yield
        await run_in_threadpool(monitor.stop)

    async def list_models(request: Request) -> JSONResponse:
        return JSONResponse(models(predictor).model_dump(mode="json"))

    async def schema(request: Request) -> JSONResponse:
        return JSONResponse(openapi.describe(predictor.about["data_version"]))

    own = [Route("/models", list_models), Route("/docs.json", schema)]
    routes = [*own, *monitor.routes(), *pages.routes(), UnknownPath()]
    return Starlette(routes=routes, exception_handlers=HANDLERS, lifespan=lifespan)


def _answer(
    scope: Scope,
    predictor: Predictor,
    image: schemas.Upload,
    model: str,
    explain: list[str],
    target: str,
    maps: bool,
) -> schemas.Answer:
    result = predictor.predict(image.data, _public_name(image), model, explain, target)
    state(scope)["predictions"] = [result]
    clock = Clock(result.milliseconds)
    card = predictor.package.cards[result.opinion.model]
    explanations = {name: _explanation(each, card, name, maps) for name, each in result.explanations.items()}
    scan = _base64(png(result.pixels)) if explanations else None
    clock.lap("draw")
    return schemas.Answer(
        request_id=request_id(scope),
        **_fields(result, predictor),
        milliseconds=clock.milliseconds,
        explanations=explanations,
        scan=scan,
    )


def _item(scope: Scope, predictor: Predictor, index: int, result: ImageResult | ImageError) -> schemas.BatchItem:
    if isinstance(result, ImageError):
        error = schemas.Error(error="unreadable_image", detail=str(result), request_id=request_id(scope))
        return schemas.BatchItem(index=index, error=error)
    prediction = schemas.Prediction(**_fields(result, predictor))
    return schemas.BatchItem(index=index, request_id=image_id(scope, index), prediction=prediction)


def _series_answer(
    scope: Scope, predictor: Predictor, files: list[tuple[bytes, str]], model: str, maps: bool
) -> schemas.SeriesAnswer:
    try:
        result = predictor.predict_series(files, model, maps)
    except ImageError as error:  # a file inside a zip may be named after a patient
        raise ImageError(re.sub(r"(image(\.dcm)?)/.+?: ", r"a file in \1: ", str(error))) from None
    state(scope)["predictions"] = [result.verdict]
    clock = Clock(result.verdict.milliseconds)
    slices = [_slice(result, i, maps) for i in range(len(result.opinions))]
    clock.lap("draw")
    answer = _fields(result.verdict, predictor)
    shared = ("label", "probabilities", "abstain", "reasons", "model", "model_version")
    left_out = Counter(one.reason for one in result.series.left_out)
    return schemas.SeriesAnswer(
        request_id=request_id(scope),
        fitted=result.fitted,
        key_slices=result.key,
        slices=slices,
        plane=result.series.plane,
        spacing=result.series.spacing,
        left_out=[schemas.LeftOutFiles(reason=reason, count=count) for reason, count in left_out.items()],
        notes=list(result.series.notes),
        milliseconds=clock.milliseconds,
        **_worth(predictor.package.cards[result.verdict.opinion.model], "gradcam"),
        **{name: answer[name] for name in (*shared, "dataset", "data_version", "synthetic")},
    )


def _slice(result: SeriesResult, index: int, maps: bool) -> schemas.SeriesSlice:
    opinion = result.opinions[index]
    return schemas.SeriesSlice(
        label=opinion.label,
        probabilities=opinion.probabilities,
        abstain=opinion.abstains,
        position=result.series.slices[index].position,
        scan=_base64(png(result.pixels[index])) if maps else None,
        overlay=_base64(png(overlay(result.maps[index]))) if result.maps else None,
    )


def models(predictor: Predictor) -> schemas.Models:
    """Return the packaged networks and what they can be asked for."""
    about, package = predictor.about, predictor.package
    return schemas.Models(
        default=package.default,
        models=[
            schemas.ModelInfo(
                name=name,
                model_version=package.version(name),
                size_px=card["input"]["size"],
                size_mb=disk_size_mb(package.folder / "models" / name, package.precision(name)),
                precision=package.precision(name),
                self_test=package.self_test(name),
                gate_failures=card["gate_failures"],
                test=about["test"][name],
                answers=about["answers"][name],
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
    failures = predictor.package.cards[opinion.model]["gate_failures"]
    gate = schemas.GateScore(score=opinion.score, threshold=opinion.threshold, failures=failures)
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


def _worth(card: dict[str, Any], method: str) -> dict[str, Any]:
    worth = worth_on(card, method)
    return worth._asdict() if worth else dict.fromkeys(MapWorth._fields)


def _explanation(explanation: ExplanationMap, card: dict[str, Any], method: str, with_map: bool) -> schemas.Explanation:
    values = explanation.values.astype("<f4")
    empty = f"Nothing in the image speaks for {in_words(explanation.target)}: the map is empty."
    return schemas.Explanation(
        overlay=_base64(png(overlay(explanation.values))),
        target=explanation.target,
        agreement=explanation.agreement,
        note=None if values.any() else empty,
        **_worth(card, method),
        map=schemas.RawMap(shape=list(values.shape), data=_base64(values.tobytes())) if with_map else None,
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _numbered(index: int, image: schemas.Upload, several: bool) -> str:
    """Return a name for messages: files of a series are told apart, and sorted, by their place in the request."""
    return f"{index + 1:04d}-{_public_name(image)}" if several else _public_name(image)


def _public_name(image: schemas.Upload) -> str:
    """Return a name for messages: not the file's own, which may be a patient's, only its type."""
    return "image.dcm" if image.name.lower().endswith(DICOM_NAMES) else "image"
