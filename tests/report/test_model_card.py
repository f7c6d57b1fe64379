"""The model card of the committed run, and of runs with less information."""

import re
import shutil

import pytest

from mri.base.files import read_json
from mri.base.params import load, parse
from mri.commands.compose import compose
from mri.report import model_card
from mri.report.metrics import collect

MODEL_CARD_SECTIONS = [
    *("Model details", "Intended use", "Out of scope", "Factors", "Metrics", "Evaluation data", "Training data"),
    *("Quantitative analyses", "Ethical considerations", "Caveats, and what wasn't done"),
    "Where the CLAIM checklist (2024) is answered",
]


@pytest.fixture
def content(root):
    return collect(root / "metrics/details")


@pytest.fixture
def params(root):
    return load(root / "params.yaml")


def test_the_sections_are_those_of_model_cards(params, content):
    card = model_card.markdown(params, content)
    assert re.findall(r"^## (.+)$", card, re.MULTILINE) == MODEL_CARD_SECTIONS
    assert "not a medical device" in card and "synthetic" in card
    assert not re.search(r"\n\n\n", card.split("## Model details")[1])


def test_figures_are_those_of_the_run(params, content):
    winner = content["summary"]["winner"]
    test = content["evaluate"][winner]["test"]
    content["summary"]["models"][winner]["test"]["macro_f1"] = {"value": 0.8766, "low": 0.81, "high": 0.93}
    test["per_class"]["glioma"] |= {"recall": 0.125, "support": 8}
    test["intervals"]["per_class"]["glioma"]["recall"] = [0.0, 0.375]
    test["confusion"] = [[1, 7, 0, 0], [0, 9, 0, 0], [2, 0, 9, 0], [0, 0, 0, 9]]
    content["data"]["skipped"] = 3
    content["data"]["leakage"]["split"]["patient"] = 0.25
    card = model_card.markdown(params, content)
    assert f"| **{winner}** |" in card and "87.7 [81.0, 93.0]" in card
    assert "The weakest class is glioma: 12.5 [0.0, 37.5] % of 8 are recognised." in card
    mistakes = re.findall(r"^- (\d+ of \d+ \w+) images are predicted to be (\w+)\.$", card, re.MULTILINE)
    assert mistakes == [("7 of 8 glioma", "meningioma"), ("2 of 11 notumor", "glioma")]
    assert "3 images were unreadable" in card and "same patient or source picture: 25.0 %" in card


def test_missed_tumours_have_their_intervals_and_subgroups_no_score_that_means_nothing(params, content):
    winner = content["summary"]["winner"]
    missed = {"value": 0.125, "low": 0.025, "high": 0.375}
    content["summary"]["models"][winner]["test"] |= {"macro_f1": missed, "missed_tumour_rate": missed}
    majority = content["summary"]["baselines"]["majority"]
    majority |= {"macro_f1": missed, "missed_tumour_rate": {"value": 0.75, "low": 0.5, "high": 1.0}}
    few = {"n": 7, "groups": 3, "accuracy": missed}
    many = few | {"balanced_accuracy": missed, "missed_tumour_rate": missed}
    content["evaluate"][winner]["test_by"] = {"plane": {"few": few, "many": many}}
    card = model_card.markdown(params, content)
    assert "| 12.5 [2.5, 37.5] | 12.5 [2.5, 37.5] |\n" in card and "| 12.5 [2.5, 37.5] | 75.0 [50.0, 100.0] |\n" in card
    assert "| plane: few | 7 | 3 | 12.5 [2.5, 37.5] |  |  |\n" in card
    assert "| plane: many | 7 | 3 |" + 3 * " 12.5 [2.5, 37.5] |" + "\n" in card


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[5, 0], [0, 5]], []),
        ([[5, 2], [3, 4]], [("b", "a", 3, 7), ("a", "b", 2, 7)]),
    ],
)
def test_the_commonest_mistakes_come_first(counts, expected):
    mistakes = model_card.confusions(counts, ["a", "b"])
    assert [tuple(mistake.values()) for mistake in mistakes] == expected
    assert len(model_card.confusions([[0, 1, 1], [1, 0, 1], [1, 1, 0]], ["a", "b", "c"], most=4)) == 4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"source": "local"}, "only whoever put it there knows how it was diagnosed."),
        ({"source": "kaggle"}, "It doesn't say how, by whom or from what a diagnosis was made."),
    ],
)
def test_the_reference_standard_is_the_sources(params, content, change, sentence):
    params = params.model_copy(update={"data": params.data.model_copy(update=change)})
    card = model_card.markdown(params, content)
    assert sentence in card and "synthetic" not in card


@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        ("grouped", "Training and test images come from the same source"),
        ("source", "test images come from a source without training images"),
        ("official", "This split leaks"),
    ],
)
def test_what_was_not_validated_is_said_for_each_split(params, content, protocol, sentence):
    content["summary"]["protocol"] = protocol
    assert sentence in model_card.markdown(params, content)


@pytest.mark.parametrize("stage", ["data", "consensus", "drift", "train", "evaluate", "robustness", "explain"])
def test_a_card_lacks_what_a_run_lacks(root, tmp_path, params, stage):
    shutil.copytree(root / "metrics/details", tmp_path / "metrics/details")
    gone = tmp_path / "metrics/details" / stage
    shutil.rmtree(gone) if gone.is_dir() else gone.with_suffix(".json").unlink()
    model_card.write(params, tmp_path / "metrics/details", tmp_path)
    card = (tmp_path / "model_card.md").read_text()
    assert re.findall(r"^## (.+)$", card, re.MULTILINE) == MODEL_CARD_SECTIONS


def test_the_page_says_the_same_and_loads_nothing(params, root, tmp_path):
    model_card.write(params, root / "metrics/details", tmp_path)
    page = (tmp_path / "model_card.html").read_text()
    assert [text.replace("&#39;", "'") for text in re.findall(r"<h2>(.+?)</h2>", page)] == MODEL_CARD_SECTIONS
    winner = read_json(root / "metrics/details/summary.json")["winner"]
    assert f"<strong>{winner}</strong>" in page and "<title>Model card: " in page and "|" not in page
    assert not re.search(r"<script|https?://|@import", page)


def test_the_card_says_who_a_network_learned_from_and_what_labels_then_did_not_decide(root, content):
    alone = model_card.markdown(parse(compose([], root / "conf")), content)
    taught = model_card.markdown(parse(compose(["model@teacher=efficientnet_b0"], root / "conf")), content)
    assert "It learned from" not in alone and "training gives equal weight to classes" in alone
    assert "- It learned from the predictions of efficientnet_b0, trained first on the same images" in taught
    assert "These predictions are 100 % of its target" in taught and "training gives equal weight to images" in taught
