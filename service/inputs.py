"""Read and check the body of a request to the API, in place of BentoML.

BentoML's own parser fetches addresses that stand in fields for files, writes uploads to files named by the client, and
answers what it can't read with 500. Here uploads stay in memory, text where a file belongs is refused, and so is what
would otherwise be ignored: unknown fields, fields sent twice, options in the address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_origin

from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.context import state
from service.errors import BadRequestError, response_to, wrong_fields
from service.schemas import Inputs, Upload

# Files, and other fields, in one form.
MAX_PARTS = 1000


class ReadInputs:
    """ASGI middleware that leaves the inputs of POST requests in their state. schemas: the fields, by path."""

    def __init__(self, app: ASGIApp, schemas: Mapping[str, type[Inputs]]):
        self.app, self.schemas = app, schemas

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in self.schemas:
            try:
                state(scope)["inputs"] = await read(Request(scope, receive), self.schemas[scope["path"]])
            except BadRequestError as error:
                await response_to(scope, error)(scope, receive, send)
                return
        await self.app(scope, receive, send)


async def read(request: Request, schema: type[Inputs]) -> Inputs:
    """Return the checked fields of a request. Raises BadRequestError with one sentence that says what to send."""
    if request.url.query:
        raise BadRequestError("the address ends with ?...: send options as fields of the body")
    try:
        if schema.is_form():
            return schema.model_validate(_fields(await _form(request), schema))
        body = await request.body()
        if not body and schema.model_fields:
            raise BadRequestError("the body is missing: send it")
        return schema.model_validate_json(body or b"{}")
    except ValidationError as error:
        raise wrong_fields(error, schema) from None
    except ClientDisconnect:
        raise BadRequestError("the body didn't arrive in full: send it again") from None


async def _form(request: Request) -> FormData:
    """Return a form whose files have been replaced by uploads in memory."""
    try:
        form = await request.form(max_files=MAX_PARTS, max_fields=MAX_PARTS)
    except HTTPException:
        raise BadRequestError(
            f"the body is no sound multipart/form-data of at most {MAX_PARTS} files and {MAX_PARTS} other fields: "
            "it begins and ends with the boundary that Content-Type names"
        ) from None
    try:
        return FormData([(name, await _part(part)) for name, part in form.multi_items()])
    finally:
        await form.close()


async def _part(part: UploadFile | str) -> Any:
    return Upload(await part.read(), part.filename or "") if isinstance(part, UploadFile) else part


def _fields(form: FormData, schema: type[Inputs]) -> dict[str, Any]:
    """Return a form's fields: a list where the schema has one. Raises BadRequestError for others sent twice."""
    lists = {name for name, field in schema.model_fields.items() if get_origin(field.annotation) is list}
    values: dict[str, Any] = {}
    for name in form:
        parts = form.getlist(name)
        if name in schema.model_fields and name not in lists and len(parts) > 1:
            raise BadRequestError(f"{name} was sent {len(parts)} times: send it once")
        values[name] = parts if name in lists else parts[0]
    return values
