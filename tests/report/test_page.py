"""The report of the published run and of incomplete runs; in a browser where appearance matters."""

import re
import shutil
from pathlib import Path

import pytest

from mri.base.files import read_json, write_json
from mri.base.params import load
from mri.report import page
from mri.report.tables import weakest_class
from tests.conftest import needs_browser

LOADED_FROM_ELSEWHERE = re.compile(r"""(?:src|href)=["']?(?:https?:)?//|url\(["']?(?:https?:)?//|@import|<script src""")
SECTIONS = ("result", "choice", "data", "training", "errors", "confidence", "robustness", "explanations", "costs")


@pytest.fixture
def run(root, tmp_path) -> Path:
    """A copy of the committed run's metrics and plots."""
    for folder in ("metrics", "plots"):
        shutil.copytree(root / folder, tmp_path / folder)
    shutil.copy(root / "params.yaml", tmp_path)
    return tmp_path


def written(run: Path, viewer: dict = page.NO_VIEWER) -> str:
    page.write(load(run / "params.yaml"), run / "metrics/details", run / "plots", run / "out", viewer)
    return (run / "out/report.html").read_text()


def test_the_page_has_every_section_and_holds_its_pictures(run):
    page = written(run)
    assert [name for name in re.findall(r'<section id="(\w+)">', page) if name != "drift"] == list(SECTIONS)
    assert not LOADED_FROM_ELSEWHERE.search(page)
    pictures = re.findall(r"<img[^>]*>", page)
    assert len(pictures) > 15
    assert all('src="data:image/' in tag and re.search(r'alt="[^"]+"', tag) for tag in pictures)
    assert "All images are synthetic" in page


def test_the_numbers_on_the_page_are_those_of_the_metrics(run):
    summary = read_json(run / "metrics/details/summary.json")
    score = {"value": 0.87654, "low": 0.81, "high": 0.93}
    missed = {"value": 0.125, "low": 0.025, "high": 0.375}
    summary["models"][summary["winner"]]["test"] |= {"macro_f1": score, "missed_tumour_rate": missed}
    summary["baselines"]["majority"]["missed_tumour_rate"] = {"value": 0.75, "low": 0.5, "high": 1.0}
    write_json(summary, run / "metrics/details/summary.json")
    page = written(run)
    assert "87.7 %<small>95 % interval 81.0 to 93.0" in page and "<td>87.7 [81.0, 93.0]</td>" in page
    assert "12.5 %<small>tumours called tumour-free, 95 % interval 2.5 to 37.5</small>" in page
    assert "<td>87.7 [81.0, 93.0]</td><td>12.5 [2.5, 37.5]</td>" in page and "<td>75.0 [50.0, 100.0]</td>" in page
    weakest = weakest_class(read_json(run / f"metrics/details/evaluate/{summary['winner']}.json"))
    assert f"<dd>{weakest['name']}<small>" in page and f"% of {weakest['support']} recognised" in page


def test_parts_of_the_test_images_have_their_missed_tumours_and_no_score_that_means_nothing(run):
    winner = read_json(run / "metrics/details/summary.json")["winner"]
    path = run / f"metrics/details/evaluate/{winner}.json"
    half = {"value": 0.5, "low": 0.25, "high": 0.75}
    few = {"n": 7, "groups": 3, "accuracy": half}
    many = few | {"balanced_accuracy": half, "missed_tumour_rate": {"value": 0.125, "low": 0.0, "high": 0.375}}
    write_json(read_json(path) | {"test_by": {"plane": {"few": few, "many": many}}}, path)
    page = written(run)
    shown = "<td>7</td><td>3</td><td>50.0 [25.0, 75.0]</td>"
    assert f"{winner}, few</td>{shown}<td></td><td></td>" in page
    assert f"{winner}, many</td>{shown}<td>50.0 [25.0, 75.0]</td><td>12.5 [0.0, 37.5]</td>" in page


def test_the_gate_s_false_positives_are_shown_with_their_interval(run):
    path = run / "metrics/details/robustness/resnet50.json"
    scores = read_json(path)
    scores["gate"]["test_images_let_through"] = 0.9375
    scores["gate"]["far"] = {
        "text": {
            "auroc": {"value": 0.75, "low": 0.625, "high": 0.875},
            "fpr_at_95_tpr": {"value": 0.5, "low": 0.25, "high": 0.75},
            "let_through": 0.125,
        }
    }
    for other in path.parent.iterdir():
        write_json(scores, other)
    page = written(run)
    auroc, rate, let_through = (
        page.split(title)[1].split("</table>")[0] for title in ("AUROC, %<", "TPR, %<", "Let th")
    )
    assert auroc.count("<td>75.0 [62.5, 87.5]</td>") == rate.count("<td>50.0 [25.0, 75.0]</td>") == 4
    assert let_through.count("<td>12.5</td>") == let_through.count("<td>93.8</td>") == 4


def test_a_run_of_one_network_compares_nothing(run):
    summary = read_json(run / "metrics/details/summary.json")
    summary["models"] = {"resnet50": summary["models"]["resnet50"]}
    summary["decided_by"] = {"resnet50": summary["decided_by"]["resnet50"]}
    write_json(summary | {"winner": "resnet50", "test_comparisons": []}, run / "metrics/details/summary.json")
    write_json({"n": 0, "why": "a consensus needs two networks"}, run / "metrics/details/consensus.json")
    page = written(run)
    assert "<h1>One network for" in page and 'id="choice"' not in page and "Consensus of all" not in page
    assert "the only network" in page and "resnet101</td>" not in page


def test_a_run_without_masks_has_no_scores_of_maps(run):
    for path in (run / "metrics/details/explain").iterdir():
        write_json({"n": 0, "methods": {}, "baselines": {}}, path)
    write_json({"n": 0, "why": "no test image has a mask"}, run / "metrics/details/consensus.json")
    page = written(run)
    assert "there is nothing to score maps against" in page and "Where the maps point" not in page


@pytest.mark.parametrize("stage", ["data", "train", "evaluate", "robustness", "explain", "benchmark", "consensus"])
def test_a_stage_without_metrics_leaves_its_section_out(run, stage):
    gone = run / "metrics/details" / stage
    shutil.rmtree(gone) if gone.is_dir() else gone.with_suffix(".json").unlink()
    page = written(run)
    lost = {"train": ["training"], "evaluate": ["errors", "confidence"], "explain": ["explanations"]}
    names = lost.get(stage, [] if stage == "consensus" else ["costs" if stage == "benchmark" else stage])
    assert not any(f'id="{name}"' in page for name in names)
    assert all(f'id="{name}"' in page for name in SECTIONS if name not in names)


def test_a_run_without_plots_has_a_page_too(run):
    shutil.rmtree(run / "plots")
    (run / "plots").mkdir()
    assert "charts/training" not in written(run)


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_as_wide_as_a_phone_and_says_nothing_to_the_console(run, browser, scheme):
    written(run)
    page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme=scheme)
    messages = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto((run / "out/report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    colours = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    assert (colours[1] == "rgb(255, 255, 255)") == (scheme == "light") and colours[0] != colours[1]
    assert messages == []


def pixel(colour: str) -> str:
    """Return a one-colour picture as a data URL, so that the browser can tell pictures apart."""
    return f"data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' fill='{colour}'/>"


def image_record(label: str, called: str, outline: str | None) -> dict:
    """Return a record like those of `mri.report.viewer`; the consensus is `called`, the second network says glioma."""
    maps = {"one": {"gradcam": pixel("one"), "gradient": pixel("gradient")}, "two": {"gradcam": pixel("two")}}
    by_network = {"one": called, "two": "glioma"}
    pictures = {"scan": pixel(label), "outline": outline, "maps": maps, "consensus": pixel("both")}
    return {"label": label, "called": called, "own": by_network, **pictures}


@needs_browser
def test_the_viewer_shows_the_chosen_image_and_map_and_says_how_it_is_called(run, browser):
    images = [image_record("glioma", "glioma", pixel("cyan")), image_record("notumor", "pituitary", None)]
    written(run, {"images": images, "methods": ["gradcam", "gradient"], "colours": ["#000000", "#ffffff"]})
    page = browser.new_page()
    messages = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto((run / "out/report.html").as_uri())
    form = page.locator("#viewer")
    scan, shown, outline = (form.locator("img").nth(i) for i in range(3))
    assert form.locator("optgroup").evaluate_all("all => all.map(e => e.label)") == [
        "correct predictions",
        "wrong predictions",
    ]
    assert shown.get_attribute("src") == pixel("one") and outline.get_attribute("src") == pixel("cyan")
    assert outline.is_visible()
    form.locator("[name=outlined]").uncheck()
    assert not outline.is_visible()
    form.locator("[name=outlined]").check()
    form.locator("[name=method]").select_option("gradient")
    assert shown.get_attribute("src") == pixel("gradient")
    form.locator("[name=method]").select_option("gradcam")
    form.locator("[name=network]").select_option("two")
    form.locator("[name=image]").select_option(label="2: notumor, predicted pituitary")
    assert [scan.get_attribute("src"), shown.get_attribute("src")] == [pixel("notumor"), pixel("two")]
    assert not outline.is_visible(), "no outline is known"
    assert form.locator("output").inner_text() == (
        "Wrong: notumor, predicted pituitary by all networks together; the maps explain “pituitary”. "
        "On its own, two predicts glioma."
    )
    form.locator("[name=network]").select_option(label="all together (consensus of Grad-CAM)")
    assert shown.get_attribute("src") == pixel("both") and form.locator("[name=method]").is_disabled()
    assert messages == []


@needs_browser
def test_no_table_or_picture_is_cut_off_on_paper(run, browser):
    written(run)
    page = browser.new_page(viewport={"width": 703, "height": 1000})  # A4 within its margins
    page.emulate_media(media="print")
    page.goto((run / "out/report.html").as_uri())
    wide = "[...document.querySelectorAll('table, img')].filter(e => e.scrollWidth > document.body.clientWidth).length"
    assert page.evaluate(wide) == 0
    assert page.pdf().startswith(b"%PDF")


def test_the_weakest_class_is_the_one_recognised_least():
    test = {
        "per_class": {"a": {"recall": 0.9, "support": 10}, "b": {"recall": 0.5, "support": 4}},
        "intervals": {"per_class": {"a": {"recall": [0.8, 1.0]}, "b": {"recall": [0.25, 0.75]}}},
    }
    assert weakest_class({"test": test}) == {
        "name": "b",
        "recall": {"value": 0.5, "low": 0.25, "high": 0.75},
        "support": 4,
    }
