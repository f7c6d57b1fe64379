"""Answers to hostile, odd and wrong requests, over the whole application; and what other websites may do."""

import gzip
import io
import tempfile
import zipfile

import nibabel
import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests import packages
from tests.imagefiles import blank_png, chunk, claim_size, deflated_bomb, dicom, encode, exif, jpeg_dicom, nifti, sound

GREY = np.random.default_rng(0).integers(0, 256, (40, 60), np.uint8)
PLAIN = encode(Image.fromarray(GREY))
DEEP = GREY.astype(np.uint16) * 7
SOUND = sound()
LARGEST = 2_000_000
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client(predictor, tmp_path_factory):
    """A client of a service that takes bodies of LARGEST bytes."""
    return TestClient(packages.application(predictor, tmp_path_factory.mktemp("store"), max_megabytes=LARGEST / 1e6))


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of this process's temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def refused(answer) -> tuple[int, str]:
    """Return status and error of an answer in the stable form."""
    body = answer.json()
    assert set(body) == {"error", "detail", "request_id"} and "\n" not in body["detail"]
    return answer.status_code, body["error"]


def probabilities(client, data: bytes, name: str = "scan.png", kind: str = "image/png") -> dict[str, float]:
    answer = client.post("/predict", files={"image": (name, data, kind)})
    assert answer.status_code == 200, answer.text
    return answer.json()["probabilities"]


# What is unusual and right --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOUND)
def test_every_kind_of_sound_file_is_answered(client, temporary, kind):
    assert sum(probabilities(client, SOUND[kind]).values()) == pytest.approx(1)
    assert list(temporary.iterdir()) == []


def test_the_first_picture_of_an_animation_counts(client):
    frames = [Image.fromarray(GREY[::-1]), Image.fromarray(255 - GREY)]
    animated = encode(Image.fromarray(GREY), save_all=True, append_images=frames)
    assert b"acTL" in animated and probabilities(client, animated) == probabilities(client, PLAIN)


def test_a_picture_is_turned_as_its_exif_says(client):
    turned = encode(Image.fromarray(np.rot90(GREY)), exif=exif(6))  # a quarter clockwise to display
    assert probabilities(client, turned) == probabilities(client, PLAIN)
    assert probabilities(client, encode(Image.fromarray(np.rot90(GREY)))) != probabilities(client, PLAIN)


def test_colour_modes_that_hold_the_same_grey_levels_get_the_same_answer(client):
    palette = Image.fromarray(GREY).convert("P")
    for picture in (palette, Image.fromarray(GREY).convert("RGB"), Image.fromarray(GREY).convert("RGBA")):
        assert probabilities(client, encode(picture)) == probabilities(client, PLAIN), picture.mode


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("run.js", "alert(1)")
    return buffer.getvalue()


def test_what_follows_a_picture_is_not_looked_at(client):
    polyglot = PLAIN + archive()
    assert zipfile.ZipFile(io.BytesIO(polyglot)).namelist() == ["run.js"]
    assert probabilities(client, polyglot) == probabilities(client, PLAIN)


@pytest.mark.parametrize("kind", ["application/x-msdownload", "image/jpeg", "text/html", "image/svg+xml", ""])
def test_what_a_file_is_called_does_not_matter_only_what_it_is(client, kind):
    assert probabilities(client, PLAIN, "scan.exe", kind) == probabilities(client, PLAIN)


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd",
        "..\\..\\windows\\win.ini",
        "/etc/shadow",
        "scan.png\x00.exe",
        "%2e%2e%2fetc%2fpasswd.png",
        "<img src=x onerror=alert(1)>.png",
        "'; DROP TABLE requests; --.png",
        "\u202egnp.exe",
        "n" * 1000,
    ],
)
def test_the_name_of_a_file_leads_nowhere(client, temporary, name):
    answer = client.post("/predict", files={"image": (name, PLAIN)})
    assert answer.status_code == 200 and name not in answer.text
    assert list(temporary.iterdir()) == []
    wrong = client.post("/predict", files={"image": (name, b"no image")})
    assert refused(wrong) == (422, "unreadable_image") and name not in wrong.json()["detail"]


# What is refused ------------------------------------------------------------------------------------------------------


def packed_bomb() -> bytes:
    header = nibabel.Nifti1Header()
    header.set_data_shape((30_000, 30_000, 1))
    header.set_data_dtype(np.float32)
    return gzip.compress(header.binaryblock + bytes(10**6))


def text_bomb() -> bytes:
    """Return a PNG with a compressed text of 200 MB before its pixels."""
    info = PngInfo()
    info.add_text("Comment", "x", zip=True)
    marked = encode(Image.fromarray(GREY), pnginfo=info)
    import zlib

    content = b"Comment\0\0" + zlib.compress(bytes(200_000_000), 9)
    return marked[:33] + chunk(b"zTXt", content) + marked[33:]


UNREADABLE = {
    "zero bytes": b"",
    "text": b"no image",
    "animated gif": encode(
        Image.fromarray(GREY), format="GIF", save_all=True, append_images=[Image.fromarray(GREY[::-1])]
    ),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://127.0.0.1/a.png"/></svg>',
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
    "pdf before a picture": b"%PDF-1.7" + PLAIN,
    "archive before a picture": archive() + PLAIN,
    "cut png": PLAIN[: len(PLAIN) // 2],
    "cut jpeg": SOUND["jpeg RGB"][:300],
    "cut dicom": SOUND["dicom"][:-500],
    "cut nifti": SOUND["nifti"][:-500],
    "few pixels": encode(Image.fromarray(GREY[:8, :8])),
    "many pixels": blank_png(6000, 6000),
    "claimed pixels": claim_size(PLAIN, 2**31 - 1, 2**31 - 1),
    "long and thin": blank_png(16, 60_000),
    "unpacking text": text_bomb(),
    "unpacking dicom": deflated_bomb(200),
    "unpacking nifti": packed_bomb(),
    "unpacking jpeg in a dicom": jpeg_dicom(Image.new("L", (3000, 3000))),
    "many deep pixels": encode(Image.fromarray(np.zeros((5000, 5000), np.uint16))),
    "many clear pixels": encode(Image.new("RGBA", (5000, 5000))),
    "wide grey levels": gzip.compress(nifti(np.zeros((4000, 4000, 1))), 1),
    "dicom that claims pixels": dicom(DEEP, Rows=60_000, Columns=60_000),
    "text in the picture": dicom(DEEP, BurnedInAnnotation="YES"),
    "computed tomography": dicom(DEEP, Modality="CT"),
    "several frames": dicom(np.zeros((3, 32, 32), np.uint16), NumberOfFrames=3),
    "volume": nifti(np.zeros((32, 32, 20), np.float32)),
}


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("name", ["scan.png", "scan.dcm"])
def test_files_that_are_no_slice_are_refused_and_none_is_kept(client, temporary, kind, name):
    answer = client.post("/predict", files={"image": (name, UNREADABLE[kind], "image/png")})
    assert refused(answer) == (422, "unreadable_image")
    assert list(temporary.iterdir()) == []


def multipart(body: bytes, content_type: str = "multipart/form-data; boundary=x") -> dict:
    return {"content": body, "headers": {"content-type": content_type}}


FORM = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'


@pytest.mark.parametrize(
    ("request_of", "expected"),
    [
        ({"files": {"wrong": PLAIN}}, (400, "bad_request")),
        ({"files": {"image": (None, "http://127.0.0.1/scan.png")}}, (400, "bad_request")),
        ({"files": {"image": PLAIN}, "data": {"maps": "perhaps"}}, (400, "bad_request")),
        ({"files": {"image": PLAIN}, "data": {"explain": "gradcam,lime"}}, (400, "bad_request")),
        ({"data": {}}, (415, "unsupported_media_type")),
        ({"files": {"image": PLAIN}, "data": {"explain": "__import__('os')"}}, (400, "bad_request")),
        ({"files": {"image": PLAIN}, "data": {"model": "../winner"}}, (404, "unknown_model")),
        ({"files": {"image": PLAIN}, "data": {"model": "WINNER"}}, (404, "unknown_model")),
        ({"files": {"image": PLAIN}, "data": {"model": "winner\x00"}}, (404, "unknown_model")),
        ({"files": {"image": PLAIN}, "data": {"model": "m" * 10_000}}, (404, "unknown_model")),
        ({"files": [("image", b"x")] * 1100}, (400, "bad_request")),
        ({"files": {"image": PLAIN}, "data": {str(i): "" for i in range(1100)}}, (400, "bad_request")),
        ({"files": {"image": blank_png(16, 16) + bytes(LARGEST)}}, (413, "body_too_large")),
        ({"files": {"image": ("n" * 5000, PLAIN)}}, (400, "bad_request")),
        (multipart(FORM + PLAIN), (400, "bad_request")),  # it never ends
        (multipart(b"no form"), (400, "bad_request")),
        (multipart(FORM + PLAIN + b"\r\n--x--", "multipart/form-data"), (400, "bad_request")),
        (multipart(b"\x80\x04.", "application/vnd.bentoml+pickle"), (415, "unsupported_media_type")),
        (multipart(PLAIN, "image/png"), (415, "unsupported_media_type")),
        ({"json": {"image": "http://127.0.0.1/scan.png"}}, (415, "unsupported_media_type")),
        ({"files": {"image": PLAIN}, "headers": {"x-padding": "a" * 20_000}}, (431, "headers_too_large")),
    ],
)
def test_wrong_requests_have_their_status_and_leave_no_file(client, temporary, request_of, expected):
    assert refused(client.post("/predict", **request_of)) == expected
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"request_id": 1}', b'{"request_id": "a", "label": "no class"}']
)
def test_wrong_feedback_is_refused(client, body):
    answer = client.post("/feedback", content=body, headers=JSON)
    assert refused(answer) == (400, "bad_request")


@pytest.mark.parametrize(
    ("path", "request_of", "detail"),
    [
        ("/predict", {"files": {"wrong": PLAIN}}, "image is missing: send it"),
        ("/predict", {"files": {"image": (None, "text")}}, "image should be a file, sent with a file name"),
        ("/predict", {"files": {"image": PLAIN}, "data": {"maps": "perhaps"}}, "maps should be true or false"),
        ("/predict", {"files": {"image": PLAIN, "maps": PLAIN}}, "maps should be true or false"),
        ("/predict", {"files": {"image": PLAIN, "model": PLAIN}}, "model should be text"),
        (
            "/predict_batch",
            {"files": [("images", PLAIN), ("images", (None, "text"))]},
            "images.1 should be a file, sent with a file name",
        ),
        ("/feedback", {"content": b"", "headers": JSON}, "the body is missing: send it"),
        ("/feedback", {"content": b"{", "headers": JSON}, "the body should be JSON"),
        ("/feedback", {"content": b"\xff\xfe", "headers": JSON}, "the body should be JSON"),
        ("/feedback", {"json": []}, "the body should be a JSON object"),
        ("/feedback", {"json": {"request_id": "a"}}, "label is missing: send it"),
        ("/feedback", {"json": {"request_id": 1, "label": "glioma"}}, "request_id should be text"),
        (
            "/feedback",
            {"json": {"request_id": "a" * 65, "label": "glioma"}},
            "request_id should have at most 64 characters",
        ),
    ],
)
def test_a_wrong_field_is_answered_with_a_sentence_that_says_what_to_send(client, path, request_of, detail):
    answer = client.post(path, **request_of)
    assert refused(answer) == (400, "bad_request") and answer.json()["detail"] == detail


@pytest.mark.parametrize(
    ("hours", "detail"),
    [("0", "hours should be greater than 0"), ("many", "hours should be a number")],
)
def test_a_wrong_parameter_is_answered_with_a_sentence_that_says_what_to_send(client, hours, detail):
    assert client.get("/api/monitoring", params={"hours": hours}).json()["detail"] == detail


# Other websites -------------------------------------------------------------------------------------------------------

FOREIGN = {"origin": "https://example.org", "sec-fetch-site": "cross-site"}
PREFLIGHT = {"origin": "https://example.org", "access-control-request-method": "POST"}


def test_other_websites_may_neither_ask_nor_read(client):
    assert refused(client.post("/predict", files={"image": PLAIN}, headers=FOREIGN)) == (403, "other_website")
    for answer in (client.get("/models", headers=FOREIGN), client.options("/predict", headers=PREFLIGHT)):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_website_that_the_setting_names_may_ask_and_read_and_no_other(predictor, tmp_path):
    client = TestClient(packages.application(predictor, tmp_path, allowed_origins=("https://example.org",)))
    answer = client.post("/predict", files={"image": PLAIN}, headers=FOREIGN)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://example.org")
    assert client.options("/predict", headers=PREFLIGHT).status_code == 200
    other = FOREIGN | {"origin": "https://example.com"}
    assert refused(client.post("/predict", files={"image": PLAIN}, headers=other)) == (403, "other_website")
    assert "access-control-allow-origin" not in client.get("/models", headers=other).headers


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/monitoring", "/ui/app.js", "/ui/legend.png", "/monitoring/charts.js", "/models"]
)
def test_pages_run_and_load_nothing_but_their_own_files_and_stand_in_no_frame(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy and "unsafe" not in policy and "http" not in policy and "*" not in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
