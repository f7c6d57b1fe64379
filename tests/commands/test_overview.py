from mri.base.files import write_json
from mri.base.paths import SCORES
from mri.base.timing import StageTime
from mri.commands.overview import ending, table


def test_every_stage_has_its_seconds_and_the_last_line_their_sums():
    assert table([StageTime("download", 9.6, 12.2), StageTime("train@resnet50", 100.4, 190.0)]).splitlines() == [
        "stage           seconds  CPU seconds",
        "download             10           12",
        "train@resnet50      100          190",
        "2 stages            110          202",
    ]


def test_a_run_without_work_says_so():
    assert table([]) == "Nothing to do: every stage is up to date."


def test_the_winner_stands_beside_the_best_trivial_classifier(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json({"name": "efficientnet_b0", "macro_f1": 0.9561}, SCORES / "winner.json")
    write_json({"name": "grey_levels", "macro_f1": 0.354}, SCORES / "best_trivial.json")
    winner, report, following = ending().splitlines()
    assert winner == "winner: efficientnet_b0, macro-F1 0.956 on test images (best trivial classifier: 0.354)"
    assert report.endswith("artifacts/report/report.html") and following.endswith("make serve")
