"""The OpenAPI schema at /docs.json. BentoML's own would describe errors of another form, and no GET."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import schemas
from service.limits import ROUTES

REFERENCE = "#/components/schemas/{model}"
FAILURES = {
    "500": "The service failed (internal_error); the failure is logged.",
    "503": "Too many requests are in progress, it took too long, or the model or the monitoring store can't be used.",
}
REFUSALS = {"4XX": "The request is wrong: `detail` says why.", **FAILURES}
IMAGE_REFUSALS = {
    "400": "A field of the request is wrong or missing.",
    "401": "A key is needed.",
    "403": "A page of another website sent the request.",
    "404": "There is no such model.",
    "408": "The body took too long to arrive.",
    "413": "The body is too large.",
    "415": "The body isn't multipart/form-data.",
    "422": "The image can't be read or used.",
    "431": "The headers are too large.",
    **FAILURES,
}


class Operation(NamedTuple):
    """One method of a path. query: the parameters in its address. answer: None for an answer without a body."""

    method: str
    path: str
    description: str
    refusals: dict[str, str]
    inputs: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None


OPERATIONS = [
    Operation(
        "post",
        "/predict",
        "Classify one MRI slice, and explain the answer if asked to.",
        IMAGE_REFUSALS,
        schemas.PredictInputs,
        answer=schemas.Answer,
    ),
    Operation(
        "post",
        "/predict_batch",
        "Classify several MRI slices; a bad file doesn't fail the others.",
        IMAGE_REFUSALS,
        schemas.BatchInputs,
        answer=schemas.BatchAnswer,
    ),
    Operation(
        "post",
        "/predict_series",
        "Classify the slices of one series, and the series.",
        IMAGE_REFUSALS,
        schemas.SeriesInputs,
        answer=schemas.SeriesAnswer,
    ),
    Operation(
        "post", "/feedback", "Send the confirmed class of an image that was predicted.", REFUSALS, schemas.Feedback
    ),
    Operation("get", "/models", "List the networks and what they can be asked for.", REFUSALS, answer=schemas.Models),
    Operation(
        "get",
        "/api/monitoring",
        "Return counts, latencies, classes, confidence, drift, accuracy and recent errors of the last hours.",
        REFUSALS,
        query=schemas.MonitoringQuery,
        answer=schemas.MonitoringFigures,
    ),
]


def describe(version: str) -> dict[str, Any]:
    """Return the OpenAPI document of the service. version: of the data behind its networks."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    about = {"title": "Brain-tumour MRI classifier", "description": schemas.NOTICE, "version": version}
    return {"openapi": "3.1.0", "info": about, "paths": paths, "components": {"schemas": _components()}}


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": operation.description,
        "operationId": operation.path.strip("/").replace("/", "_"),
        "responses": _responses(operation),
    }
    if operation.inputs:
        media_type = ROUTES[operation.path].media_type
        described["requestBody"] = {"required": True, "content": {media_type: _reference(operation.inputs)}}
    if operation.query:
        described["parameters"] = [
            {"in": "query", "name": name, "description": schema.pop("description"), "schema": schema}
            for name, schema in operation.query.model_json_schema()["properties"].items()
        ]
    return described


def _responses(operation: Operation) -> dict[str, Any]:
    done: dict[str, Any] = {"204": {"description": "Done."}}
    if operation.answer:
        done = {"200": {"description": "The answer.", "content": {"application/json": _reference(operation.answer)}}}
    error = {"application/json": _reference(schemas.Error)}
    return done | {status: {"description": text, "content": error} for status, text in operation.refusals.items()}


def _reference(schema: type[BaseModel]) -> dict[str, Any]:
    return {"schema": {"$ref": REFERENCE.format(model=schema.__name__)}}


def _components() -> dict[str, Any]:
    sent = [(one.inputs, "validation") for one in OPERATIONS if one.inputs]
    answered = [(one.answer, "serialization") for one in OPERATIONS if one.answer]
    _, document = models_json_schema([*sent, *answered, (schemas.Error, "serialization")], ref_template=REFERENCE)  # type: ignore[list-item]
    # A file is its own type to BentoML's clients, and text in binary to OpenAPI.
    return json.loads(json.dumps(document["$defs"]).replace('"type": "file"', '"type": "string"'))
