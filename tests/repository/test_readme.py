"""README, CONTRIBUTING and docs/: every command in them, every link, the annotated tree.

What needs neither a network nor minutes runs here: the remotes, requests to the service, a queue of experiments, and
every --help, which has to list the options used. Of the other commands it is checked that what they name exists:
targets of make, modules, stages, overrides of experiments (which are composed), routes of the service, programs.
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
from itertools import combinations, groupby, pairwise, product
from pathlib import Path

import pytest
import yaml

from benchmarks.local_service import served
from mri.base.errors import UserError
from mri.base.files import read_json
from mri.base.params import parse
from mri.commands.compose import compose
from mri.commands.publish import PART
from tests import imagefiles, packages
from tests.base.test_cli import PROGRAMS
from tests.conftest import blobs
from tests.workspace import ROOT, THUMBNAIL, TWO_ARCHITECTURES, environment, make, run

README = (ROOT / "README.md").read_text()
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
PROSE = "\n".join(PAGES.values())
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
ARCHITECTURES = list(yaml.safe_load((ROOT / "params.yaml").read_text())["model"]["architectures"])
ADDRESS = "http://localhost:3000"


def words(line: str) -> list[list[str]]:
    """Split a line into commands, each a list of words; `&&` and `|` outside quotes separate commands."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|")
    lexer.whitespace_split = True
    return [list(group) for separator, group in groupby(lexer, {"&&", "|"}.__contains__) if not separator]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Return every command of the shell blocks."""
    return [command for block in blocks(text, "sh") for line in block.splitlines() for command in words(line)]


def inline(text: str) -> list[list[str]]:
    """Return every command in backticks within a sentence."""
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    programs = ("make ", "dvc ", "python -m ", "bentoml ", "-S ", "pip ", "source ", "pre-commit ")
    return [command for line in quoted if line.startswith(programs) for command in words(line)]


COMMANDS = [list(command) for command in sorted({*map(tuple, commands(PROSE)), *map(tuple, inline(PROSE))})]


@cache
def explained(*command: str) -> str:
    """Return the text of a program's --help."""
    done = subprocess.run(
        [*command, "--help"], cwd=ROOT, env=environment(ROOT), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def options(words: list[str]) -> list[str]:
    return [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]


def check_make(words: list[str]) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
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
    assert all(option in explained("dvc", *words[:group]) for option in options(words[group:]))
    if words[:2] == ["artifacts", "get"]:
        assert words[3] in PIPELINE["artifacts"]


def check_overrides(overrides: list[str]) -> None:
    """Check that each experiment composes to valid parameters; "seed=1,2" is two experiments."""
    pairs = [override.split("=", 1) for override in overrides if not override.endswith("=...")]
    several = [[f"{key}={value}" for value in re.split(r",(?!.*\])", values)] for key, values in pairs]
    for choice in product(*several):
        parse(compose(list(choice), conf()))


@cache
def conf() -> Path:
    """A copy of conf/ with the example files of the documentation."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    shutil.copytree(ROOT / "conf", folder / "conf")
    for block in blocks(PROSE, "yaml"):
        if file := re.match(r"# (conf/[\w/.]+):", block):
            (folder / file[1]).write_text(block)
    return folder / "conf"


def check_curl(words: list[str]) -> None:
    (address,) = [word for word in words if word.startswith(ADDRESS)]
    route = address.removeprefix(ADDRESS).split("?")[0]
    assert any(f'"{route}"' in path.read_text() for path in (ROOT / "service").rglob("*.py"))


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
    assert words == ["install", "pre-commit"] or (words[:2] == ["install", "-r"] and (ROOT / words[2]).is_file())


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
    "rm": lambda words: all((ROOT / word).exists() for word in words) or pytest.fail(f"{words} do not exist"),
    "source": lambda words: None,  # .venv/bin/activate, which make creates
    "pre-commit": lambda words: None,  # installed by those who want it
}


def test_commands_are_found():
    assert ["make", "repro"] in commands(README) and ["-S", "train.devices=2"] in inline(PROSE)
    assert words("a --keep 'x|y' | b && c  # d") == [["a", "--keep", "x|y"], ["b"], ["c"]]


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
    for command in commands(PROSE):
        if command[:2] == ["dvc", "remote"]:
            run(tmp_path, *command)
    assert run(tmp_path, "dvc", "remote", "list").stdout.split() == ["origin", "s3://dvc", "(default)"]
    assert "TOKEN" not in (tmp_path / ".dvc/config").read_text()
    assert (tmp_path / ".dvc/config.local").read_text().count("TOKEN") == 2
    assert run(tmp_path, "git", "check-ignore", ".dvc/config.local").returncode == 0


LINKS = [(page, target) for page, text in PAGES.items() for target in sorted(set(re.findall(r"\]\(([^)]+)\)", text)))]


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_a_link_leads_somewhere(page, target):
    if re.match(r"https?://", target):
        return
    file, _, anchor = target.partition("#")
    path = (ROOT / page).parent / file if file else ROOT / page
    assert path.exists()
    headings = re.findall(r"^##+ (.+)$", path.read_text(), re.MULTILINE) if anchor else []
    assert anchor in {"", *(re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings)}


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


def test_every_stage_is_explained():
    rows = re.findall(r"^\| (`[a-z`, ]+) \|", README, re.MULTILINE)
    assert set(PIPELINE["stages"]) <= set(re.findall(r"[a-z]+", " ".join(rows)))


def test_every_direct_dependency_is_explained():
    (table,) = re.findall(r"^\| package \| for \|\n(.*?)\n\n", PROSE, re.MULTILINE | re.DOTALL)
    explained = set(re.findall(r"[a-z0-9-]+", " ".join(row.split("|")[1] for row in table.splitlines()).lower()))
    pinned = re.findall(r"^([A-Za-z0-9-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert [name for name in pinned if name.lower() not in explained and not name.startswith("types-")] == []


def test_the_hooks_before_a_commit_use_the_pinned_ruff():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    (revision,) = [repository["rev"] for repository in hooks if repository["repo"].endswith("ruff-pre-commit")]
    assert f"ruff=={revision.removeprefix('v')}\n" in (ROOT / "requirements.txt").read_text()


def test_figures_with_intervals_stand_only_where_they_are_generated():
    """`make publish` fills the parts between markers from results/; tests/commands/test_publish.py compares them."""
    for page, text in PAGES.items():
        by_hand = re.sub(r"```.*?```|`[^`]*`", "", PART.sub("", text), flags=re.DOTALL)
        assert not re.findall(r"\[-?[\d.]+, -?[\d.]+\]", by_hand), page


def test_the_commands_of_the_published_runs_are_those_that_made_them():
    recipes = [command for command in commands(PAGES["docs/results.md"]) if command[:3] == ["dvc", "exp", "run"]]
    for name, command in zip(("kaggle", "kaggle-official"), recipes, strict=True):
        composed = compose([word for flag, word in pairwise(command) if flag == "-S"], ROOT / "conf")
        published = yaml.safe_load((ROOT / f"results/{name}/params.yaml").read_text())
        assert composed["train"]["phases"] == published["train"]["phases"]
        assert composed["split"]["protocol"] == published["split"]["protocol"]


def test_what_the_pages_say_without_figures_is_what_the_published_runs_found():
    run = ROOT / "results/kaggle/metrics"
    pairs = read_json(run / "summary.json")["test_comparisons"]
    verdicts = {(row["first"], row["second"]): row["verdict"] for row in pairs}
    told_apart = {pair: verdict for pair, verdict in verdicts.items() if verdict != "not distinguishable"}
    assert told_apart == {
        ("resnet50", "efficientnet_b1"): "efficientnet_b1 better",
        ("resnet101", "efficientnet_b1"): "efficientnet_b1 better",
        ("resnet101", "efficientnet_b0"): "efficientnet_b0 better",
    }
    consensus = read_json(run / "consensus.json")
    lead, agreement = consensus["lead_over_best_single"], consensus["agreement"]
    assert lead["rma"]["high"] < 0 and not lead["road"]["distinguishable"]
    assert agreement["auroc_of_being_right"]["low"] < 0.5 < agreement["confidence_auroc_of_being_right"]["low"]
    for name in read_json(run / "summary.json")["models"]:
        explained = read_json(run / f"explain/{name}.json")
        bell = explained["baselines"]["gaussian"]["auroc"]["value"]
        assert all(explained["methods"][method]["auroc"]["value"] < bell for method in ("gradcam", "gradcam_aligned"))
        assert not explained["faithfulness"]["methods"]["guided_backprop"]["randomisation"]["passed"]
    official = read_json(ROOT / "results/kaggle-official/metrics/summary.json")
    copied = official["baselines"]["nearest_neighbour"]["macro_f1"]["value"]
    assert all(row["test"]["macro_f1"]["high"] < copied for row in official["models"].values())
    load = read_json(ROOT / "results/benchmarks/load.json")
    assert load["unplanned_5xx"] == 0 and load["recorded_exactly_once"] and abs(load["memory_growth"]) < 0.05


@pytest.mark.slow
def test_the_service_answers_the_requests(tmp_path):
    packages.package(tmp_path / "package", ("efficientnet_b0", "resnet50"))
    for name in ("scan.png", "one.png"):
        (tmp_path / name).write_bytes(packages.scan())
    (tmp_path / "two.dcm").write_bytes(imagefiles.dicom(blobs(1, 64).pixels[0]))
    requests = [[*command, "-sS"] for command in commands(README) if command[0] == "curl"]
    snippets = [[sys.executable, "-c", block] for block in blocks(PROSE, "python") if ADDRESS in block]
    with served(tmp_path / "served", workers=1, package=tmp_path / "package") as service:
        answers = [
            run(tmp_path, *(word.replace(ADDRESS, service.address) for word in command)).stdout
            for command in [*requests, *snippets]
        ]
    prediction, explanation, batch = map(json.loads, answers[:3])
    assert prediction["model"] == "efficientnet_b0" and prediction["label"] in packages.CLASSES
    assert list(explanation["explanations"]) == ["gradcam"]
    assert [answer["index"] for answer in batch["predictions"]] == [0, 1]
    assert all(answers[3:])


@pytest.mark.slow
def test_a_grid_over_architectures_and_folds_is_queued_run_and_pooled(tmp_path):
    folder = make(tmp_path, THUMBNAIL + TWO_ARCHITECTURES)
    small = [f"-S{change}" for change in THUMBNAIL]
    for command in commands(PROSE):
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
    folds = read_json(folder / "results/my-folds/folds.json")
    assert folds["folds"] == 2 and folds["pooled"]["n"] == 4 * 6 * 5
    assert run(folder, "git", "status", "--porcelain").stdout == "?? results/\n"
