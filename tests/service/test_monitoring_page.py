"""The dashboard in a real browser, over a store with planted rows."""

from __future__ import annotations

import re
import time
import uuid

import pytest
import sqlalchemy as sa
from playwright.sync_api import Page, expect

from service.monitoring import monitor
from service.monitoring.store import Store
from tests import packages
from tests.conftest import needs_browser
from tests.service.conftest import running

pytestmark = needs_browser
HTML = "<img src=x onerror=alert(1)>"
HOUR = 3600.0


@pytest.fixture(scope="module")
def monitored(predictor, tmp_path_factory):
    """The address of a service, whose summaries are never cached, and its store with planted rows."""
    folder = tmp_path_factory.mktemp("monitored")
    store = Store(f"sqlite:///{folder / 'monitoring.db'}")
    store.insert(planted(time.time()))
    with pytest.MonkeyPatch.context() as patched, running(packages.application(predictor, folder)) as address:
        patched.setattr(monitor, "CACHE_SECONDS", 0)
        patched.setattr(monitor, "CACHE_FACTOR", 0)
        yield address, store


def row(moment: float, **changes) -> dict:
    common = {"request_id": str(uuid.uuid4()), "time": moment, "route": "/predict", "status": 200, "ms": 40.0}
    common |= {"error": None, "feedback": None, "data_version": "0123456789ab"}
    return common | {"model": "winner", "label": "glioma", "confidence": 0.9, "abstain": False} | changes


def failed(moment: float, **changes) -> dict:
    return row(moment, model=None, label=None, confidence=None, abstain=None) | changes


def planted(now: float) -> list[dict]:
    """Return rows of 60 answers of two networks in the last hour, 40 three hours old, and 3 errors, one with HTML."""
    recent = [row(now - 50 * i, ms=20.0 + i, label=("glioma", "notumor")[i % 2], feedback="glioma") for i in range(40)]
    recent += [row(now - 50 * i, model="other", label="pituitary", ms=80.0, abstain=True) for i in range(20)]
    old = [row(now - 3 * HOUR - i, label="meningioma", confidence=0.6) for i in range(40)]
    errors = [failed(now - 60, status=422, error=HTML), failed(now - 120, status=415, error="unsupported_media_type")]
    rows = [*recent, *old, *errors, failed(now - 180, status=500, error="internal_error")]
    return sorted(rows, key=lambda row: row["time"])


class Dashboard:
    """The dashboard in a browser, recording what users never see; `refresh` moves its clock."""

    def __init__(self, browser, address: str, **context):
        self.page: Page = browser.new_context(**context).new_page()
        self.page.set_default_timeout(60_000)
        self.trouble: list[str] = []
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: self.trouble.append(dialog.message))
        self.page.clock.install()
        self.page.goto(f"{address}/monitoring")
        expect(self.page.get_by_text(re.compile("^updated"))).to_be_visible()

    def refresh(self) -> None:
        """Let the dashboard's refresh interval pass."""
        self.page.clock.run_for(10_000)

    def tile(self, name: str):
        return self.page.locator(".tile", has=self.page.locator(".name", has_text=re.compile(f"^{name}$")))

    def chart(self, title: str):
        return self.page.locator(".chart", has=self.page.get_by_role("heading", name=title, exact=True))

    def choose(self, label: str, value: str) -> None:
        with self.page.expect_response(lambda answer: "/api/monitoring" in answer.url):
            self.select(label).select_option(value)

    def select(self, label: str):
        return self.page.get_by_role("combobox", name=re.compile(f"^{label}"))


@pytest.fixture
def dashboard(browser, monitored):
    dashboard = Dashboard(browser, monitored[0])
    yield dashboard
    assert dashboard.trouble == []
    dashboard.page.context.close()


def bars(chart, style: str) -> int:
    return chart.locator(f"svg[role=img] rect.{style}").count()


def test_tiles_and_charts_show_what_was_planted(dashboard):
    dashboard.choose("Time", "1")
    expect(dashboard.tile("Requests").locator(".value")).to_have_text("63")
    expect(dashboard.tile("Errors")).to_contain_text("1 failures, 2 refused")
    expect(dashboard.tile("Abstained").locator(".value")).to_have_text("33.3 %")
    expect(dashboard.tile("Accuracy")).to_contain_text("40 confirmed")
    expect(dashboard.tile("Accuracy").locator(".value")).to_have_text("50 %")
    requests = dashboard.chart("Requests")
    expect(requests.locator("svg[role=img]")).to_have_attribute(
        "aria-label", re.compile(r"answered 60, refused 2, failed 1$")
    )
    assert bars(requests, "s0") > 20 and bars(requests, "refused") == 2 and bars(requests, "errors") == 1
    classes = dashboard.chart("Predicted classes")
    expect(classes.locator(".legend span")).to_have_text(["glioma", "no tumour", "pituitary"])
    latency = dashboard.chart("Latency, ms")
    expect(latency.locator("path.line")).to_have_count(3)
    assert all("M" in path for path in latency.locator("path.line").evaluate_all("all => all.map(p => p.outerHTML)"))


def test_range_and_model_choose_what_is_counted(dashboard):
    expect(dashboard.tile("Requests").locator(".value")).to_have_text("103")  # of the last day
    dashboard.choose("Time", "1")
    expect(dashboard.tile("Requests").locator(".value")).to_have_text("63")
    dashboard.choose("Model", "other")
    expect(dashboard.tile("Requests").locator(".value")).to_have_text("20")
    expect(dashboard.tile("Latency").locator(".value")).to_have_text("80 ms")
    expect(dashboard.chart("Predicted classes").locator(".legend span")).to_have_text(["pituitary"])
    dashboard.choose("Model", "winner")
    dashboard.choose("Time", "24")
    expect(dashboard.tile("Requests").locator(".value")).to_have_text("80")


def test_errors_are_listed_newest_first_and_as_text(dashboard):
    lines = dashboard.page.locator("#errors tr")
    expect(lines).to_have_count(4)
    expect(lines.nth(1).locator("td").nth(2)).to_have_text(HTML)
    expect(lines.nth(3)).to_contain_text("500")
    expect(dashboard.page.locator("#errors img")).to_have_count(0)


def test_the_dashboard_refreshes_itself(browser, monitored):
    address, store = monitored
    dashboard = Dashboard(browser, address)
    before = dashboard.tile("Requests").locator(".value").inner_text()
    store.insert([row(time.time(), request_id="late")])
    dashboard.refresh()
    expect(dashboard.tile("Requests").locator(".value")).to_have_text(str(int(before) + 1))
    with store.begin() as connection:
        connection.execute(sa.text("DELETE FROM requests WHERE request_id = 'late'"))
    dashboard.page.context.close()


def test_a_store_that_is_gone_is_said_and_the_page_recovers(dashboard):
    answer = '{"error": "store_unavailable", "detail": "try again later", "request_id": "a"}'
    dashboard.page.route("**/api/monitoring*", lambda route: route.fulfill(status=503, body=answer))
    dashboard.select("Time").select_option("168")
    expect(dashboard.page.get_by_role("alert")).to_have_text("No figures: try again later")
    dashboard.page.unroute_all()
    dashboard.refresh()
    expect(dashboard.page.get_by_role("alert")).to_have_text("")
    dashboard.trouble.clear()  # the browser itself notes the 503


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_both_themes(browser, monitored, scheme):
    dashboard = Dashboard(browser, monitored[0], color_scheme=scheme)
    brightness = """element => {
        const of = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).reduce((sum, v) => sum + Number(v), 0) / 3;
        const style = getComputedStyle(element);
        return [of(style.color), of(style.backgroundColor)];
    }"""
    text, ground = dashboard.page.locator(".tile").first.evaluate(brightness)
    assert (text < ground) == (scheme == "light") and abs(text - ground) > 120
    dashboard.page.context.close()


def test_a_phone_needs_no_sideways_scrolling(browser, monitored):
    dashboard = Dashboard(browser, monitored[0], viewport={"width": 390, "height": 844})
    expect(dashboard.page.locator(".chart").first).to_be_visible()
    assert dashboard.page.evaluate("document.documentElement.scrollWidth") == 390
    dashboard.page.context.close()
