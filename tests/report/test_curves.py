import pandas as pd

from mri.report import curves

ROWS = [("glioma", 0.9, "1", "A"), ("glioma", 0.2, "1", "A"), ("notumor", 0.4, "2", ""), ("notumor", 0.1, "3", "")]


def predictions(classes) -> pd.DataFrame:
    frame = pd.DataFrame(ROWS, columns=["label", "p_glioma", "group", "series"])
    frame[f"p_{classes[1]}"] = 1 - frame["p_glioma"]
    frame["predicted"] = [classes[0] if share > 0.5 else classes[1] for share in frame["p_glioma"]]
    return frame.replace({"label": {"notumor": classes[1]}}).assign(architecture="a")


def written(folder, classes) -> dict[str, pd.DataFrame]:
    model = {"latency_ms_p50": 1.0, "test": {"macro_f1": {"value": 0.5}}}
    curves.write(folder, predictions(classes), pd.DataFrame({"epoch": [1]}), {"a": model}, classes)
    return {path.stem: pd.read_csv(path, keep_default_na=False) for path in folder.iterdir()}


def test_patients_and_curves_of_tumour_or_not_are_tables_of_all_networks(tmp_path):
    tables = written(tmp_path, ["glioma", "notumor"])
    patients = tables["patients"][["group", "label", "series", "images", "right", "architecture"]]
    assert patients.values.tolist() == [
        [1, "glioma", "A", 2, 0.5, "a"],
        [2, "notumor", "", 1, 1, "a"],
        [3, "notumor", "", 1, 1, "a"],
    ]
    assert tables["roc"][["false_positive_rate", "sensitivity"]].values.tolist() == [
        [0, 0],
        [0, 0.5],
        [0.5, 0.5],
        [0.5, 1],
        [1, 1],
    ]
    decision = tables["decision"]
    assert decision["architecture"].unique().tolist() == ["a", curves.EVERYONE]
    at_half = decision[decision["threshold"] == 0.5]
    assert at_half["net_benefit"].tolist() == [0.25, 0]


def test_without_a_tumour_free_class_there_is_nothing_to_screen_for(tmp_path):
    assert not {"roc", "decision"} & set(written(tmp_path, ["glioma", "meningioma"]))
