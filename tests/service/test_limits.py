import asyncio
import contextlib
import json

import pytest

from service.errors import BusyError
from service.limits import Limits, Slots
from service.security import HEADERS, Access, SecurityHeaders
from service.settings import Settings

MULTIPART = ("content-type", "multipart/form-data; boundary=x")


async def takes_all(scope, receive, send):
    """An application that reads the whole body and answers with its length."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


async def ask(app, path="/predict", method="POST", headers=(MULTIPART,), body=(b"",), pause=0.0):
    """Status, headers and body of an answer; the request's body arrives in pieces."""
    pieces = list(body)
    scope = {"type": "http", "method": method, "path": path}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in headers]
    sent = []

    async def receive():
        if not pieces:
            return {"type": "http.disconnect"}
        await asyncio.sleep(pause)
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    named = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return start["status"], named, b"".join(part.get("body", b"") for part in rest)


def refused(answer) -> tuple[int, str]:
    """Return status and error of an answer in the stable form."""
    status, _, body = answer
    content = json.loads(body)
    assert set(content) == {"error", "detail", "request_id"} and "\n" not in content["detail"]
    return status, content["error"]


def limited(app=takes_all, **settings):
    return Limits(app, Settings(**settings))


PART = bytes(1000)


def test_a_body_within_the_limit_passes():
    status, _, body = asyncio.run(ask(limited(max_megabytes=0.002), body=[PART, PART]))
    assert (status, body) == (200, b"2000")


def test_a_body_that_says_it_is_too_large_is_refused():
    headers = (MULTIPART, ("content-length", "2001"))
    assert refused(asyncio.run(ask(limited(max_megabytes=0.002), headers=headers))) == (413, "body_too_large")


@pytest.mark.parametrize("headers", [(MULTIPART,), (MULTIPART, ("content-length", "5"))])
def test_a_body_that_turns_out_too_large_is_refused_whatever_it_said(headers):
    answer = asyncio.run(ask(limited(max_megabytes=0.002), headers=headers, body=[PART, PART, b"1"]))
    assert refused(answer) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/predict", "application/vnd.bentoml+pickle"),
        ("/predict", "application/json"),
        ("/predict", "image/jpeg"),
        ("/predict", ""),
        ("/predict_batch", "application/octet-stream"),
        ("/feedback", "multipart/form-data; boundary=x"),
    ],
)
def test_other_media_types_are_refused(path, media_type):
    answer = asyncio.run(ask(limited(), path, headers=[("content-type", media_type)]))
    assert refused(answer) == (415, "unsupported_media_type")


def test_enormous_headers_are_refused():
    headers = (MULTIPART, ("x-padding", "a" * 20_000))
    assert refused(asyncio.run(ask(limited(), headers=headers))) == (431, "headers_too_large")


def test_a_body_that_trickles_in_is_cut_off():
    answer = asyncio.run(ask(limited(timeout_seconds=0.2), body=[b"1"] * 100, pause=0.05))
    assert refused(answer) == (408, "upload_too_slow") and answer[1]["connection"] == "close"


def test_an_answer_that_takes_too_long_is_given_up():
    async def slow(scope, receive, send):
        await receive()
        await asyncio.sleep(3600)

    answer = asyncio.run(ask(limited(slow, timeout_seconds=0.2)))
    assert refused(answer) == (503, "too_slow") and answer[1]["retry-after"] == "1"


def test_beyond_the_queue_requests_are_refused_and_once_there_is_room_taken():
    async def main():
        go = asyncio.Event()

        async def waits(scope, receive, send):
            await go.wait()
            await takes_all(scope, receive, send)

        app = limited(waits, queue=3)
        under_way = [asyncio.ensure_future(ask(app)) for _ in range(3)]
        await asyncio.sleep(0.01)
        beyond = await ask(app)
        page = asyncio.ensure_future(ask(app, "/", "GET"))
        go.set()
        assert refused(beyond) == (503, "busy") and beyond[1]["retry-after"] == "1"
        assert {(await one)[0] for one in [*under_way, page]} == {200}
        assert (await ask(app))[0] == 200 and app.in_progress == 0

    asyncio.run(main())


def test_a_thread_that_goes_on_after_its_time_still_counts():
    async def main():
        go = asyncio.Event()

        async def stubborn(scope, receive, send):
            await receive()
            while not go.is_set():
                with contextlib.suppress(asyncio.CancelledError):  # as work in a thread does
                    await go.wait()

        app = limited(stubborn, queue=1, timeout_seconds=0.1)
        answers = [await ask(app), await ask(app)]
        go.set()
        assert [refused(answer) for answer in answers] == [(503, "too_slow"), (503, "busy")]
        await asyncio.sleep(0.01)
        assert app.in_progress == 0

    asyncio.run(main())


def test_a_failure_is_answered_in_the_stable_form_and_logged(caplog):
    async def fails(scope, receive, send):
        raise RuntimeError("a secret of the inside")

    answer = asyncio.run(ask(limited(fails)))
    assert refused(answer) == (500, "internal_error") and b"secret" not in answer[2]
    assert "a secret of the inside" in caplog.text


def test_slots_run_so_many_at_once_let_so_many_wait_and_refuse_more():
    async def main():
        slots, go, running = Slots(2, 1), asyncio.Event(), []

        async def work(name):
            async with slots.taken():
                running.append(name)
                await go.wait()

        tasks = [asyncio.ensure_future(work(i)) for i in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await work(3)
        assert running == [0, 1] and slots.waiting == 1
        go.set()
        await asyncio.gather(*tasks)
        assert running == [0, 1, 2]
        await work(4)

    asyncio.run(main())


def guarded(**settings):
    return Access(takes_all, Settings(**settings))


BASIC = "Basic YW55b25lOmtleTE="  # anyone:key1


@pytest.mark.parametrize(
    "header",
    [("authorization", "Bearer key1"), ("x-api-key", "key1"), ("authorization", BASIC)],
)
def test_the_key_lets_in(header):
    assert asyncio.run(ask(guarded(api_key="key1"), headers=[header]))[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("x-api-key", "")],
        [("x-api-key", "key")],
        [("x-api-key", "key12")],
        [("x-api-key", "schlüssel")],
        [("authorization", "Bearer")],
        [("authorization", "Basic ????")],
        [("authorization", "Basic a2V5MQ==")],  # key1 as the user name
        [("authorization", "Bearer watch1")],
    ],
)
@pytest.mark.parametrize("path", ["/predict", "/predict_batch", "/feedback"])
def test_without_the_key_nothing_is_predicted(path, headers):
    answer = asyncio.run(ask(guarded(api_key="key1", monitoring_key="watch1"), path, headers=headers))
    assert refused(answer) == (401, "unauthorised") and answer[1]["www-authenticate"].startswith("Basic")
    assert b"key1" not in answer[2]


@pytest.mark.parametrize("path", ["/monitoring", "/monitoring/app.js", "/api/monitoring", "/metrics"])
def test_monitoring_has_a_key_of_its_own(path):
    app = guarded(api_key="key1", monitoring_key="watch1")
    assert refused(asyncio.run(ask(app, path, "GET", [("x-api-key", "key1")]))) == (401, "unauthorised")
    assert asyncio.run(ask(app, path, "GET", [("x-api-key", "watch1")]))[0] == 200


@pytest.mark.parametrize("path", ["/", "/models", "/livez", "/docs.json"])
def test_pages_and_health_need_no_key(path):
    assert asyncio.run(ask(guarded(api_key="key1", monitoring_key="watch1"), path, "GET", []))[0] == 200


def test_pages_of_other_websites_may_not_ask_unless_they_are_allowed():
    foreign = [("origin", "https://example.org"), ("sec-fetch-site", "cross-site")]
    assert refused(asyncio.run(ask(guarded(), headers=foreign))) == (403, "other_website")
    assert asyncio.run(ask(guarded(), headers=[("sec-fetch-site", "same-origin")]))[0] == 200
    assert asyncio.run(ask(guarded(allowed_origins=("https://example.org",)), headers=foreign))[0] == 200


def test_every_answer_has_the_security_headers_and_keeps_its_own():
    async def page(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"max-age=60")]})
        await send({"type": "http.response.body", "body": b""})

    _, headers, _ = asyncio.run(ask(SecurityHeaders(page), "/", "GET"))
    assert headers == {name.lower(): value for name, value in HEADERS.items()} | {"cache-control": "max-age=60"}
    assert "unsafe" not in headers["content-security-policy"] and "http" not in headers["content-security-policy"]
