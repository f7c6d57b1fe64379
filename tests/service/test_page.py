"""The page in a real browser, against the real API over small networks."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from mri.base.errors import UserError
from mri.data.phantom.lesions import CLASSES
from service import pages
from service.errors import BusyError
from service.monitoring import middleware
from service.monitoring.store import Store
from service.settings import Settings
from tests import packages, page_samples
from tests.conftest import eventually, needs_browser
from tests.service.conftest import running

NOTICE = "Research software, not a medical device: not for diagnosis."
ANSWER = ".result .verdict"
PUBLISHED = Path(__file__).parents[2] / "results/kaggle/package"


def feedback(folder: Path, request_id: str) -> list[str]:
    """Return the confirmed classes that the store has for a request."""
    rows = Store(f"sqlite:///{folder / 'monitoring.db'}").select("request_id", "feedback")
    return [row.feedback for row in rows if row.request_id == request_id]


class Watched:
    """A page that records what users never see: console messages, errors, and where requests went."""

    def __init__(self, browser: Browser, url: str, **context):
        self.page: Page = browser.new_context(**context).new_page()
        self.page.set_default_timeout(30_000)
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)
        expect(self.page.get_by_label("Model", exact=True).locator("option")).not_to_have_count(0)


@pytest.fixture
def watched(browser, url):
    """The freshly opened page; afterwards check that nothing failed and no other host was asked."""
    watched = Watched(browser, url)
    yield watched
    assert watched.trouble == []
    assert [one for one in watched.requests if not one.startswith((url, "data:", "blob:"))] == []
    watched.page.context.close()


@pytest.fixture
def page(watched) -> Page:
    return watched.page


class FakeSlots:
    """A stand-in for the service's slots: one explanation at a time, others are refused meanwhile.

    seconds: how long each waits. busy: how many are refused in any case. error: raised for all.
    """

    def __init__(self, seconds: float = 0, busy: int = 0, error: Exception | None = None):
        self.seconds, self.busy, self.error = seconds, busy, error
        self.running = self.explained = self.refused = 0

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        if self.error:
            raise self.error
        if self.running or self.refused < self.busy:
            self.refused += 1
            raise BusyError
        self.running += 1
        self.explained += 1
        await asyncio.sleep(self.seconds)
        try:
            yield
        finally:
            self.running -= 1


@pytest.fixture
def explain_slots(app):
    """Return a function that sets the slots for explanations, for one test."""
    before = app.state.explaining

    def explain_in(**how) -> FakeSlots:
        app.state.explaining = FakeSlots(**how)
        return app.state.explaining

    yield explain_in
    app.state.explaining = before


def file(name: str, seed: int = 0) -> dict:
    return {"name": name, "mimeType": "image/png", "buffer": packages.scan(seed)}


def caption(page: Page):
    return page.locator(".pair figcaption").last


BROKEN = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"}


def upload(page: Page, *files: dict) -> None:
    page.locator("#files").set_input_files(list(files))


def overlays(page: Page) -> list[str]:
    return page.locator("#view .map").evaluate_all("maps => maps.map(map => map.src)")


@needs_browser
def test_an_upload_shows_what_the_api_answers_and_why_it_abstains(page, client):
    upload(page, file("head.png"))
    expect(page.get_by_role("heading", name="head.png")).to_be_focused()
    answer = client.post("/predict", files={"image": packages.scan()}).json()
    bars = page.locator(f"{ANSWER} .bars li")
    expect(bars).to_have_count(4)
    percentages = [float(text.removesuffix("\xa0%")) for text in page.locator(f"{ANSWER} .percent").all_text_contents()]
    assert percentages == pytest.approx([100 * share for share in answer["probabilities"].values()], abs=0.051)
    marked = bars.evaluate_all("bars => bars.map(bar => bar.classList.contains('in-set'))")
    assert marked == [name in answer["set"] for name in answer["probabilities"]]
    facts = page.locator(".facts").inner_text()
    assert "phantom" in facts and answer["data_version"] in facts and "64 × 64 pixels" in facts
    assert answer["abstain"]  # networks that were never trained can't tell
    expect(page.locator(f"{ANSWER} .label")).to_contain_text("No answer")
    for reason in answer["reasons"]:
        expect(page.locator(f"{ANSWER} .abstains")).to_contain_text(reason["detail"])
    expect(page.get_by_role("status")).to_contain_text("abstains")


@needs_browser
def test_notice_training_data_and_banner_are_on_the_page_from_the_start(page):
    expect(page.get_by_text(NOTICE)).to_be_in_viewport()
    expect(page.get_by_text("Trained on: phantom (synthetic), version 0123456789ab")).to_be_in_viewport()
    expect(page.get_by_text("Trained on synthetic images only.")).to_be_visible()
    assert "90.0\xa0% [80.0, 100.0]" in page.locator(".start").inner_text().replace(" %", "\xa0%")


@needs_browser
def test_every_sample_can_be_asked_about_and_networks_that_know_drawings_say_nothing_against_it(page):
    for text in ("Glioma", "Meningioma", "No tumour", "Pituitary"):
        page.get_by_role("button", name=f"Synthetic sample: {text}").click()
        expect(page.locator(ANSWER)).to_be_visible()
    expect(page.locator("#scans li")).to_have_count(4)
    assert DRAWN not in page.locator("body").inner_text().lower()


@needs_browser
def test_every_method_shows_the_map_that_the_api_answers_in_the_opacity_that_is_set(page, client):
    methods = "gradcam,guided_backprop,guided_gradcam,consensus"
    answer = client.post("/predict", files={"image": packages.scan()}, data={"explain": methods}).json()
    upload(page, file("head.png"))
    expect(page.locator(ANSWER)).to_be_visible()
    for name, method in zip(
        ("Grad-CAM", "Guided Backprop", "Guided Grad-CAM", "Consensus"), methods.split(","), strict=True
    ):
        page.get_by_role("radio", name=name, exact=True).check()
        expect(caption(page)).to_contain_text(f"{name} for ")
        assert overlays(page) == [f"data:image/png;base64,{answer['explanations'][method]['overlay']}"]
    expect(page.locator(".legend img")).to_be_visible()
    slider = page.get_by_label("Map opacity")
    slider.fill("20")
    expect(page.locator("#view .map")).to_have_css("opacity", "0.2")
    slider.press("ArrowRight")
    expect(page.locator("#view .map")).to_have_css("opacity", "0.25")
    expect(page.locator(".opacity .share")).to_have_text("25 %")


@needs_browser
def test_compare_shows_every_network_beside_the_consensus(page):
    upload(page, file("head.png"))
    page.get_by_role("link", name="Compare all two").click()
    expect(page.locator(".card > h2")).to_have_text(["winner", "other", "Consensus"])
    expect(page.locator(".card .bars")).to_have_count(2)
    expect(page.locator(".card .map[src]")).to_have_count(3)
    expect(page.locator(".agreement")).to_contain_text(re.compile("All two find|disagree"))
    page.get_by_label("Map opacity").fill("10")
    expect(page.locator(".card .map").last).to_have_css("opacity", "0.1")
    assert page.pdf(prefer_css_page_size=True).count(b"/Type /Page\n") == 1
    page.get_by_role("link", name="Back to one model").click()
    expect(page.locator(ANSWER)).to_be_visible()


def choose_by_keyboard(page: Page, steps: int) -> None:
    """Choose the method that many steps after Grad-CAM."""
    page.get_by_role("radio", name="Grad-CAM", exact=True).focus()
    for _ in range(steps):
        page.keyboard.press("ArrowRight")


@needs_browser
def test_compare_asks_for_one_expensive_map_at_a_time_and_for_none_that_is_no_longer_chosen(page, explain_slots):
    upload(page, file("head.png"))
    expect(page.locator(ANSWER)).to_be_visible()
    explaining = explain_slots(seconds=0.5)
    page.get_by_role("link", name="Compare all two").click()
    expect(page.locator(".card figcaption")).to_have_text(
        [re.compile("Grad-CAM for "), re.compile("Grad-CAM for "), re.compile("Consensus for ")]
    )
    choose_by_keyboard(page, steps=2)
    expect(page.locator(".card figcaption", has_text="Guided Grad-CAM for ")).to_have_count(2)
    assert len(set(overlays(page))) == 3
    # Consensus; Guided Backprop of the first network, which was under way; Guided Grad-CAM of both.
    assert (explaining.explained, explaining.refused) == (4, 0)


@needs_browser
def test_cards_never_show_a_map_under_the_name_of_another(browser, url):
    watched = Watched(browser, url)
    page = watched.page
    upload(page, file("head.png"))
    page.get_by_role("link", name="Compare all two").click()
    expect(page.locator(".card .map[src]")).to_have_count(3)
    page.route("**/predict", lambda route: route.fulfill(status=503, json={"detail": "the disk is away"}))
    page.get_by_role("radio", name="Guided Backprop").check()
    expect(page.get_by_role("alert")).to_have_text("The disk is away.")
    expect(page.locator(".card figcaption", has_text="No map by Guided Backprop. The disk is away.")).to_have_count(2)
    expect(page.locator(".card .map[src]")).to_have_count(1)  # the consensus
    expect(page.locator(".card .bars")).to_have_count(2)
    page.get_by_role("radio", name="Grad-CAM", exact=True).check()
    expect(page.locator(".card .map[src]")).to_have_count(3)
    expect(page.get_by_role("alert")).to_be_empty()
    page.context.close()


@needs_browser
def test_that_networks_disagree_is_said_on_every_card_however_late_the_consensus_comes(page, client, explain_slots):
    seed = next(seed for seed in range(20) if "models_disagree" in reasons(client, seed))
    explain_slots(seconds=0.5)
    upload(page, file("head.png", seed))
    page.get_by_role("link", name="Compare all two").click()
    expect(page.locator(".card .bars")).to_have_count(2)
    expect(page.locator(".card .abstains", has_text="name different classes")).to_have_count(2)
    expect(page.locator(".agreement")).to_contain_text("All two abstain.")


def reasons(client, seed: int) -> list[str]:
    """Return the codes of the reasons to abstain from a scan, all networks asked."""
    answer = client.post("/predict", files={"image": packages.scan(seed)}, data={"explain": "consensus"}).json()
    return [reason["code"] for reason in answer["reasons"]]


@needs_browser
def test_a_busy_service_is_asked_again(browser, url, explain_slots):
    explaining = explain_slots(busy=2)
    page = Watched(browser, url).page
    upload(page, file("head.png"))
    page.get_by_role("radio", name="Guided Backprop").check()
    expect(caption(page)).to_contain_text("Guided Backprop for ")
    expect(page.get_by_role("alert")).to_be_empty()
    assert (explaining.refused, explaining.explained) == (2, 1)
    page.context.close()


@needs_browser
def test_a_method_that_fails_leaves_the_one_that_is_shown_in_the_switch_and_the_report(browser, url, explain_slots):
    page = Watched(browser, url).page
    upload(page, file("head.png"))
    expect(caption(page)).to_contain_text("Grad-CAM for ")
    before = overlays(page)
    explain_slots(error=UserError("no memory is left"))
    choose_by_keyboard(page, steps=1)
    expect(page.get_by_role("alert")).to_have_text("Guided Backprop can't be shown. No memory is left.")
    expect(page.get_by_role("radio", name="Grad-CAM", exact=True)).to_be_checked()
    expect(page.get_by_role("radio", name="Grad-CAM", exact=True)).to_be_focused()
    expect(page.locator(".controls .hint")).to_contain_text("Regions that raise")
    expect(caption(page)).to_contain_text("Grad-CAM for ")
    assert overlays(page) == before
    with page.expect_download():
        page.get_by_role("button", name="Download report").click()
    page.context.close()


@needs_browser
def test_the_report_can_be_had_while_another_map_is_awaited(page):
    upload(page, file("head.png"))
    expect(caption(page)).to_contain_text("Grad-CAM for ")
    page.route("**/predict", lambda route: None)
    page.get_by_role("radio", name="Guided Backprop").check()
    expect(caption(page)).to_have_text("Guided Backprop …")
    assert overlays(page) == [""]
    with page.expect_download():
        page.get_by_role("button", name="Download report").click()


@needs_browser
def test_a_first_answer_whose_map_fails_comes_with_the_cheapest_one(browser, url, explain_slots):
    page = Watched(browser, url).page
    upload(page, file("first.png"))
    page.get_by_role("radio", name="Guided Backprop").check()
    expect(caption(page)).to_contain_text("Guided Backprop for ")
    explain_slots(error=UserError("no memory is left"))
    upload(page, file("second.png", 1))
    expect(page.get_by_role("heading", name="second.png")).to_be_visible()
    expect(caption(page)).to_contain_text("Grad-CAM for ")
    expect(page.get_by_role("radio", name="Grad-CAM", exact=True)).to_be_checked()
    expect(page.get_by_role("alert")).to_contain_text("Guided Backprop can't be shown.")
    page.context.close()


@needs_browser
def test_a_class_is_confirmed_once_it_was_chosen_and_stays_confirmed(page, folder):
    upload(page, file("head.png"))
    button, choice = page.get_by_role("button", name="Tell the service"), page.get_by_label("Confirmed class")
    expect(button).to_be_disabled()
    expect(choice).to_have_value("")
    choice.select_option("Glioma")
    expect(button).to_be_enabled()
    choice.select_option("Choose…")
    expect(button).to_be_disabled()
    choice.select_option("No tumour")
    button.click()
    expect(page.locator(".feedback .hint")).to_have_text("Recorded: no tumour.")
    assert feedback(folder, page.locator(".facts dd").last.inner_text()) == ["notumor"]
    page.get_by_role("radio", name="Consensus", exact=True).check()
    expect(page.locator(".feedback .hint")).to_have_text("Recorded: no tumour.")


@needs_browser
def test_feedback_that_the_service_does_not_take_is_said(browser, url):
    watched = Watched(browser, url)
    watched.page.route("**/feedback", lambda route: route.fulfill(status=503, json={"detail": "the store is away"}))
    upload(watched.page, file("head.png"))
    watched.page.get_by_label("Confirmed class").select_option("Glioma")
    watched.page.get_by_role("button", name="Tell the service").click()
    expect(watched.page.get_by_role("alert")).to_have_text("The store is away.")
    expect(watched.page.locator(".feedback .hint")).not_to_contain_text("Recorded")
    watched.page.context.close()


@needs_browser
def test_networks_that_cannot_be_explained_answer_without_a_map(browser, tmp_path):
    packages.package(tmp_path / "package")
    for card in (tmp_path / "package/models").glob("*/model.json"):
        content = json.loads(card.read_text())
        files = {name: about for name, about in content["files"].items() if "guided" not in name}
        card.write_text(json.dumps(content | {"head_weights": None, "files": files}))
        for graph in card.parent.glob("guided.*"):
            graph.unlink()
    packages.relist(tmp_path / "package")
    with running(packages.application(tmp_path / "package", tmp_path)) as url:
        watched = Watched(browser, url)
        page = watched.page
        upload(page, file("head.png"))
        expect(page.locator(f"{ANSWER} .bars li")).to_have_count(4)
        expect(page.locator(".controls")).to_be_hidden()
        expect(page.locator(".map:visible")).to_have_count(0)
        expect(page.get_by_role("figure")).to_have_count(1)  # the file itself
        with page.expect_download() as download:
            page.get_by_role("button", name="Download report").click()
        assert download.value.suggested_filename == "head-report.png"
        page.get_by_role("link", name="Compare all two").click()
        expect(page.locator(".card .bars")).to_have_count(2)
        expect(page.locator(".card .frame:visible")).to_have_count(0)
        assert watched.trouble == []
        page.context.close()


@needs_browser
def test_several_files_make_a_table_that_leads_to_each(browser, url):
    watched = Watched(browser, url)
    page = watched.page
    upload(page, *(file(f"{i}.png", i) for i in range(10)), BROKEN)
    rows = page.locator(".results tbody tr")
    expect(rows).to_have_count(11)
    expect(page.get_by_role("progressbar")).to_be_hidden()
    expect(rows.last).to_contain_text("Image: a text file: give the scan itself: DICOM, NIfTI, PNG, JPEG or TIFF.")
    assert rows.locator(".number").all_text_contents()[:10] != [""] * 10
    page.get_by_role("link", name="3.png").first.click()
    expect(page.get_by_role("heading", name="3.png")).to_be_visible()
    expect(page.locator(ANSWER)).to_be_visible()
    page.get_by_role("link", name="Results table").click()
    page.get_by_role("button", name="Clear all").click()
    expect(page.locator(".start")).to_be_visible()
    assert watched.trouble == []
    page.context.close()


@needs_browser
def test_a_file_counts_once_however_many_maps_of_it_are_looked_at(page, monkeypatch):
    asked, columns = [], middleware.prediction_columns

    def noting(result, monitor, again):
        asked.append((result.opinion.model, again))
        return columns(result, monitor, again)

    monkeypatch.setattr(middleware, "prediction_columns", noting)
    upload(page, file("a.png"), file("b.png", 1))
    expect(page.get_by_role("progressbar")).to_be_hidden()
    page.get_by_role("link", name="a.png").first.click()
    expect(caption(page)).to_contain_text("Grad-CAM for ")
    page.get_by_role("radio", name="Guided Backprop").check()
    expect(caption(page)).to_contain_text("Guided Backprop for ")
    first = [("winner", False), ("winner", False), ("winner", True), ("winner", True)]
    assert eventually(lambda: asked == first), asked  # rows are made after the answers
    page.get_by_label("Model", exact=True).select_option("other")
    expect(caption(page)).to_contain_text("Guided Backprop for ")
    assert eventually(lambda: asked == [*first, ("other", False)]), asked


@needs_browser
def test_feedback_is_about_the_network_and_the_first_request_that_it_was_given_on(page, folder):
    upload(page, file("a.png"), file("b.png", 1))
    expect(page.get_by_role("progressbar")).to_be_hidden()
    page.get_by_role("link", name="a.png").first.click()
    expect(caption(page)).to_contain_text("Grad-CAM for ")
    page.get_by_label("Confirmed class").select_option("No tumour")
    page.get_by_role("button", name="Tell the service").click()
    expect(page.locator(".feedback .hint")).to_have_text("Recorded: no tumour.")
    request_id = page.locator(".facts dd").last.inner_text()
    assert request_id.endswith("/0") and feedback(folder, request_id) == ["notumor"]  # of the batch
    page.get_by_label("Model", exact=True).select_option("other")
    expect(page.locator(".facts dd").first).to_have_text("other")
    expect(page.locator(f"{ANSWER} .eyebrow")).to_have_text("other")
    expect(page.locator(".feedback .hint")).not_to_contain_text("Recorded")
    page.get_by_label("Model", exact=True).select_option("winner")
    expect(page.locator(".feedback .hint")).to_have_text("Recorded: no tumour.")


@needs_browser
def test_focus_stays_on_its_link_while_answers_arrive(page):
    held = []
    page.route("**/predict_batch", lambda route: held.append(route))
    upload(page, *(file(f"{i}.png", i) for i in range(3)))
    link = page.locator(".results tbody").get_by_role("link", name="1.png")
    link.focus()
    held[0].continue_()
    expect(page.locator(".results tbody .number:not(:empty)")).to_have_count(3)
    assert page.evaluate("document.activeElement.textContent") == "1.png"
    assert page.evaluate("document.activeElement.closest('table') !== null")


@needs_browser
def test_a_file_may_be_dropped_anywhere(page):
    content = base64.b64encode(packages.scan()).decode()
    page.evaluate(
        """content => {
            const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
            const dataTransfer = new DataTransfer();
            dataTransfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
            document.querySelector("footer, main").dispatchEvent(
                new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        content,
    )
    expect(page.get_by_role("heading", name="dropped.png")).to_be_visible()
    expect(page.locator(ANSWER)).to_be_visible()


@needs_browser
def test_a_sample_that_does_not_come_is_said(browser, url):
    page = Watched(browser, url).page
    failures = [
        (lambda route: route.fulfill(status=500), "The service could not send glioma.png (status 500): try again."),
        (
            lambda route: route.abort(),
            "The service can't be reached: check that it runs and that you are connected, then try again.",
        ),
    ]
    for fail, message in failures:
        page.route("**/samples/*", fail)
        page.get_by_role("button", name="Synthetic sample: Glioma").click()
        expect(page.get_by_role("alert")).to_have_text(message)
    page.context.close()


@needs_browser
def test_after_clearing_the_history_leads_to_no_other_scan(page):
    upload(page, file("first.png"), file("second.png", 1))
    page.get_by_role("link", name="first.png").first.click()
    page.get_by_role("link", name="Results table").click()
    page.get_by_role("button", name="Clear all").click()
    upload(page, file("third.png", 2))
    expect(page.get_by_role("heading", name="third.png")).to_be_visible()
    page.evaluate("location.hash = '#/scan/1'")
    expect(page.locator(".start")).to_be_visible()


@needs_browser
def test_a_table_of_large_files_is_asked_for_in_parts_that_the_service_takes(page, tmp_path):
    large = packages.scan() + bytes(2_600_000)  # nobody reads what follows a picture
    assert 8 * len(large) > Settings().max_bytes
    paths = [tmp_path / f"{i}.png" for i in range(9)]
    for path in paths:
        path.write_bytes(large)
    page.locator("#files").set_input_files(paths)
    expect(page.locator(".results tbody .number:not(:empty)")).to_have_count(9)
    expect(page.get_by_role("progressbar")).to_be_hidden()


@needs_browser
def test_a_part_that_fails_is_said_in_its_rows_and_asked_for_again_when_the_table_is(browser, url):
    page = Watched(browser, url).page
    answers = iter([{"status": 500, "json": {"detail": "the disk is away"}}])
    page.route(
        "**/predict_batch", lambda route: route.fulfill(**how) if (how := next(answers, None)) else route.continue_()
    )
    upload(page, *(file(f"{i}.png", i) for i in range(11)))
    rows = page.locator(".results tbody tr")
    expect(rows.filter(has_text="failed").filter(has_text="The disk is away.")).to_have_count(8)
    expect(rows.locator(".number:not(:empty)")).to_have_count(3)
    expect(page.get_by_role("progressbar")).to_be_hidden()
    expect(page.locator(".agreement")).to_contain_text("failed 8")
    expect(page.locator("#scans li", has_text="failed")).to_have_count(8)
    page.get_by_role("link", name="9.png").first.click()
    page.get_by_role("link", name="Results table").click()
    expect(rows.locator(".number:not(:empty)")).to_have_count(11)
    page.context.close()


@needs_browser
def test_files_that_are_too_large_together_are_sent_one_by_one(browser, predictor, tmp_path):
    app = packages.application(predictor, tmp_path, max_megabytes=3e-6 * len(packages.scan()))
    with running(app) as url:
        page = Watched(browser, url).page
        large = {"name": "large.png", "mimeType": "image/png", "buffer": packages.scan(side=256)}
        upload(page, *(file(f"{i}.png", i) for i in range(3)), large, file("last.png", 4))
        rows = page.locator(".results tbody tr")
        expect(rows.locator(".number:not(:empty)")).to_have_count(4)
        expect(rows.filter(has_text="large.png")).to_contain_text("failed")
        page.context.close()


@needs_browser
def test_lists_say_abstains_or_unreadable_and_call_classes_by_plain_words(page, client):
    answers = [client.post("/predict", files={"image": packages.scan(i)}).json() for i in range(3)]
    assert any(answer["abstain"] for answer in answers)
    upload(page, *(file(f"{i}.png", i) for i in range(3)), BROKEN)
    expect(page.get_by_role("progressbar")).to_be_hidden()
    for answer, listed, row in zip(
        answers, page.locator("#scans li").all(), page.locator(".results tbody tr").all(), strict=False
    ):
        label = {"notumor": "No tumour"}.get(answer["label"], answer["label"].capitalize())
        expect(listed.locator("span")).to_have_text("abstains" if answer["abstain"] else label)
        text = f"abstainsmost probable: {label.lower()}" if answer["abstain"] else label
        expect(row.locator("[data-slot=label]")).to_have_text(text)
    expect(page.locator("#scans li").last.locator("span")).to_have_text("unreadable")
    expect(page.locator(".results tbody tr").last.locator("[data-slot=label]")).to_have_text("unreadable")
    expect(page.locator(".agreement")).to_contain_text(f"abstains on {sum(answer['abstain'] for answer in answers)}")
    assert "notumor" not in page.locator("body").inner_text()
    page.get_by_role("link", name="1.png").first.click()
    page.get_by_role("radio", name="Consensus", exact=True).check()
    expect(caption(page)).to_contain_text("Consensus for ")
    assert "notumor" not in page.locator("body").inner_text()


@needs_browser
def test_a_phone_shows_every_view_without_sideways_scrolling(browser, url):
    page = Watched(browser, url, viewport={"width": 375, "height": 800}).page
    width = "document.documentElement.scrollWidth"
    upload(page, file("head.png"))
    expect(page.locator(ANSWER)).to_be_visible()
    expect(page.get_by_role("heading", name="head.png")).to_be_in_viewport()
    assert page.evaluate(width) == 375
    page.get_by_role("link", name="Compare all two").click()
    expect(page.locator(".card .map[src]")).to_have_count(3)
    assert page.evaluate(width) == 375
    page.get_by_role("link", name="Results table").click()
    page.get_by_role("button", name="Clear all").click()
    upload(page, file("1.2.840.113619.2.5.1762583153.215519.978957063.78.png"), BROKEN)
    expect(page.get_by_role("progressbar")).to_be_hidden()
    cells = page.locator(".results tbody tr > *, .results tbody .tag, .results tbody .doubted")
    edges = cells.evaluate_all(
        "cells => cells.map(cell => [cell.getBoundingClientRect().right, cell.scrollWidth - cell.clientWidth])"
    )
    assert len(edges) == 2 * 6 + 3
    assert max(right for right, _ in edges) <= 375 and max(hidden for _, hidden in edges[:6]) <= 0
    assert page.evaluate(width) == 375
    page.context.close()


DRAWN = "drawn, not scanned"


@needs_browser
def test_networks_that_know_scans_say_that_samples_are_drawn(browser, tmp_path):
    packages.package(tmp_path)
    about = tmp_path / "service.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"synthetic": False}))
    with running(packages.application(tmp_path, tmp_path)) as url:
        page = Watched(browser, url).page
        expect(page.locator("aside")).to_contain_text("Drawn, not scanned.")
        page.get_by_role("button", name="Synthetic sample: Glioma").click()
        expect(page.locator(ANSWER)).to_be_visible()
        expect(page.locator("#view")).to_contain_text(DRAWN)
        page.get_by_role("link", name="Compare all two").click()
        expect(page.locator("#view")).to_contain_text(DRAWN)
        upload(page, file("head.png"))
        expect(page.locator(ANSWER)).to_be_visible()
        expect(page.locator("#view")).not_to_contain_text(DRAWN)
        page.get_by_role("link", name="Results table").click()
        expect(page.locator(".results tbody .remark", has_text=DRAWN)).to_have_count(1)
        page.context.close()


@needs_browser
def test_a_bad_file_is_answered_with_a_sentence(browser, url):
    watched = Watched(browser, url)
    upload(watched.page, BROKEN)
    expect(watched.page.get_by_role("alert")).to_have_text(
        "Image: a text file: give the scan itself: DICOM, NIfTI, PNG, JPEG or TIFF."
    )
    expect(watched.page.locator(ANSWER)).to_have_count(0)
    assert all("422" in text for text in watched.trouble)  # the browser's own note of the status
    watched.page.context.close()


@needs_browser
def test_an_unreachable_service_is_said(browser, url):
    page = Watched(browser, url).page
    page.context.set_offline(True)
    upload(page, file("head.png"))
    expect(page.get_by_role("alert")).to_contain_text("The service can't be reached")
    page.context.close()


@needs_browser
def test_a_service_that_does_not_answer_is_said(browser, url):
    page = Watched(browser, url).page
    page.route("**/predict", lambda route: None)
    page.clock.install()
    upload(page, file("head.png"))
    expect(page.locator(".busy")).to_contain_text("is looking at it")
    page.clock.run_for(61_000)
    expect(page.get_by_role("alert")).to_contain_text("did not answer within 60 seconds")
    page.context.close()


@needs_browser
def test_names_from_outside_are_text_and_never_markup(page):
    upload(page, file("<img src=x onerror=alert(1)>.png"))
    expect(page.locator("h1")).to_have_text("<img src=x onerror=alert(1)>.png")
    expect(page.locator("h1 img")).to_have_count(0)


@needs_browser
def test_everything_is_reachable_by_keyboard(page):
    focused = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim()"

    def tab_to(text: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(focused).startswith(text):
                assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
                return
        raise AssertionError(f"Tab never reached {text}")

    with page.expect_file_chooser():
        tab_to("Choose files")
        page.keyboard.press("Enter")
    tab_to("Synthetic sample: Glioma")
    page.keyboard.press("Space")
    expect(page.locator(ANSWER)).to_be_visible()
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    expect(page.locator(ANSWER)).to_be_visible()  # skipping to the result leaves it there
    tab_to("Compare all two")
    tab_to("Download report")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    before = overlays(page)
    page.keyboard.press("ArrowRight")  # among the methods
    expect(page.get_by_role("radio", name="Guided Backprop")).to_be_checked()
    expect(page.locator(".pair figcaption").last).to_contain_text("Guided Backprop for ")
    assert overlays(page) != before
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#view .map")).to_have_css("opacity", "0.55")


@needs_browser
def test_the_theme_follows_the_system_until_one_is_chosen(browser, url):
    page = Watched(browser, url, color_scheme="dark").page
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Light theme").click()
    light = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == light
    page.context.close()


@needs_browser
def test_the_report_is_a_picture_of_one_page_and_so_is_the_print(page, tmp_path):
    upload(page, file("head.png"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Download report").click()
    assert download.value.suggested_filename == "head-report.png"
    download.value.save_as(tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as report:
        assert report.size == (1240, 1754)
        assert len(np.unique(np.asarray(report.convert("L")))) > 100  # text, scan and colours, not a blank sheet
    printed = page.pdf(prefer_css_page_size=True)
    assert printed.count(b"/Type /Page\n") == 1


@needs_browser
@pytest.mark.parametrize("name", ["1.2.840.113619.2.5." + 4 * "1762583153.", "9" * 230])
def test_a_long_name_stays_on_the_report_s_sheet(page, tmp_path, name):
    upload(page, file(f"{name}png"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Download report").click()
    download.value.save_as(tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as report:
        sheet = np.asarray(report.convert("L"))
    assert (sheet[:, -90:] == 255).all() and (sheet[-20:] == 255).all()  # its margins


@needs_browser
@pytest.mark.parametrize("published", [True, False], ids=["published", "of-two-networks"])
def test_the_reference_s_commands_work_with_the_package_that_is_served(browser, predictor, tmp_path, published):
    app = packages.application(PUBLISHED if published else predictor, tmp_path)
    client = TestClient(app)
    with running(app) as url, browser.new_page() as page:
        page.goto(f"{url}/docs")
        shown = {route: command(page, route) for route in ("/predict", "/predict_batch", "/feedback")}
    for route in ("/predict", "/predict_batch"):
        fields = [
            word.split("=", 1) for flag, word in zip(shown[route], shown[route][1:], strict=False) if flag == "-F"
        ]
        files = [(name, packages.scan()) for name, value in fields if value[0] == "@"]
        data = {name: value for name, value in fields if value[0] != "@"}
        answer = client.post(route, files=files, data=data)
        assert answer.status_code == 200, answer.json()
        assert data["model"] == client.get("/models").json()["default"]
    body = json.loads(shown["/feedback"][shown["/feedback"].index("-d") + 1])
    assert body["request_id"] == "<request_id of an answer>"
    assert body["label"] in client.get("/models").json()["classes"]


def command(page: Page, route: str) -> list[str]:
    """Return the words of the command that the reference shows for a route."""
    return shlex.split(
        page.locator(".operation").filter(has=page.get_by_text(route, exact=True)).locator("pre").inner_text()
    )


@needs_browser
def test_the_reference_describes_every_route(browser, url, client):
    page = browser.new_page()
    page.goto(f"{url}/docs")
    paths = list(client.get("/docs.json").json()["paths"])
    expect(page.locator(".operation code[data-slot=path]")).to_have_text(paths)
    expect(page.locator(".operation", has_text="/predict_batch").locator("pre")).to_contain_text(
        f"curl -F images=@first.png -F images=@second.png -F model=winner {url}/predict_batch"
    )
    page.close()


def test_only_the_page_s_own_files_are_served(client):
    assert client.get("/ui/../__init__.py").status_code == 404
    assert client.get("/ui/%2e%2e/__init__.py").status_code == 404
    assert client.get("/ui/none.js").status_code == 404


def test_scripts_never_write_markup():
    for path in pages.STATIC.glob("*.js"):
        assert "innerHTML" not in path.read_text() and "outerHTML" not in path.read_text(), path.name


@pytest.mark.parametrize("label", CLASSES)
def test_a_sample_is_what_the_phantoms_draw(label):
    path: Path = pages.SAMPLES / f"{label}.png"
    assert path.stat().st_size < 40_000
    with Image.open(path) as image:
        difference = np.asarray(image).astype(int) - page_samples.draw(label)
    assert np.abs(difference).max() <= 1  # processors may round differently
