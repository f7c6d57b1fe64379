"""The comparison of two runs, on a scratch repository with two commits, through the command that users type."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mri.commands.diff import compare, parameters

ROOT = Path(__file__).parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/pull-request.yml").read_text())


def score(value: float) -> dict:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def summary(winner: str, **macro_f1: float) -> dict:
    rows = {
        name: {
            "test": {"accuracy": score(0.5), "balanced_accuracy": score(0.5), "macro_f1": score(value)},
            "latency_ms_p50": 4.0,
            "size_mb": 16.0,
        }
        for name, value in macro_f1.items()
    }
    return {"winner": winner, "dataset": "made", "data_version": "1", "protocol": "grouped", "models": rows}


def test_a_score_that_moved_is_shown_with_both_intervals_and_points():
    text = compare(summary("a", a=0.5), summary("a", a=0.625))
    assert "**Winner: a (as before)**" in text
    assert "| a | macro-F1, % | 50.0 [40.0, 60.0] | 62.5 [52.5, 72.5] | +12.5 points |" in text
    assert "| a | accuracy, % | 50.0 [40.0, 60.0] | 50.0 [40.0, 60.0] | same |" in text


def test_missed_tumours_are_compared_where_both_runs_have_them():
    before, after = summary("a", a=0.5), summary("a", a=0.5)
    after["models"]["a"]["test"]["missed_tumour_rate"] = {"value": 0.125, "low": 0.0, "high": 0.375}
    assert "missed tumours" not in compare(before, after)
    before["models"]["a"]["test"]["missed_tumour_rate"] = {"value": 0.25, "low": 0.125, "high": 0.5}
    row = "| a | missed tumours, % | 25.0 [12.5, 50.0] | 12.5 [0.0, 37.5] | -12.5 points |"
    assert row in compare(before, after)


def test_costs_change_in_per_cent():
    faster = summary("a", a=0.5)
    faster["models"]["a"]["latency_ms_p50"] = 3.0
    assert "| a | latency, ms | 4.0 | 3.0 | -25 % |" in compare(summary("a", a=0.5), faster)


def test_networks_that_came_or_went_are_named():
    text = compare(summary("a", a=0.5), summary("b", b=0.5))
    assert "| a | removed |  |  |  |" in text and "| b | new |  |  |  |" in text and "**Winner: a → b**" in text


def test_other_data_is_named_first():
    other = summary("a", a=0.5) | {"data_version": "2"}
    assert "The data version differs: 1 → 2." in compare(summary("a", a=0.5), other)


def test_only_parameters_that_differ_are_listed():
    text = parameters({"seed": 0, "size": 96, "old": "a|b"}, {"seed": 1, "size": 96})
    assert text.splitlines()[2:] == ["| old | a\\|b | missing |", "| seed | 0 | 1 |"]
    assert parameters({"seed": 0}, {"seed": 0}) == ""


def run_in(folder: Path, *command: str, **variables: str) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "BLOBS"))}
    env |= {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=env)


def commit(folder: Path, result: dict, seed: int) -> None:
    for name in ("metrics/details", "plots"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "metrics/details/summary.json").write_text(json.dumps(result))
    (folder / "params.yaml").write_text(yaml.safe_dump({"seed": seed, "train": {"lr": 0.1}}))
    (folder / "plots/training.csv").write_text(f"epoch,loss\n1,{seed}\n")
    run_in(folder, "git", "init", "-q", "-b", "main")
    run_in(folder, "git", "add", "-A")
    done = run_in(folder, "git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "a run")
    assert done.returncode == 0, done.stderr


def test_the_command_compares_the_working_tree_with_a_commit(tmp_path):
    commit(tmp_path, summary("a", a=0.5, b=0.4), seed=0)
    commit(tmp_path, summary("b", a=0.5, b=0.6), seed=1)
    done = run_in(tmp_path, sys.executable, "-m", "mri.commands.diff", "main~1")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "## Metrics against main~1" and "**Winner: a → b**" in lines
    assert "| b | macro-F1, % | 40.0 [30.0, 50.0] | 60.0 [50.0, 70.0] | +20.0 points |" in lines
    assert "| seed | 0 | 1 |" in lines and not any("train.lr" in line for line in lines)
    assert "- [plots/training.csv](plots/training.csv)" in lines
    (tmp_path / "plots/training.csv").unlink()
    gone = run_in(tmp_path, sys.executable, "-m", "mri.commands.diff", "main~1").stdout
    assert "- plots/training.csv (removed)" in gone.splitlines()
    run_in(tmp_path, "git", "checkout", "plots")
    same = run_in(tmp_path, sys.executable, "-m", "mri.commands.diff", "main").stdout
    assert "+" not in same and "Parameters" not in same and "Plots" not in same


@pytest.mark.parametrize(
    ("revision", "line"),
    [
        ("nonsense", "error: 'nonsense' is no commit, branch or tag of this repository\n"),
        ("empty", "error: empty has no metrics/details/summary.json: there was no run to compare with\n"),
    ],
)
def test_a_revision_without_a_run_is_one_line(tmp_path, revision, line):
    commit(tmp_path, summary("a", a=0.5), seed=0)
    run_in(tmp_path, "git", "checkout", "-q", "--orphan", "empty")
    run_in(tmp_path, "git", "rm", "-rqf", "--cached", ".")
    run_in(tmp_path, "git", "-c", "user.name=a", "-c", "user.email=a@b.org", "commit", "-q", "--allow-empty", "-m", "a")
    done = run_in(tmp_path, sys.executable, "-m", "mri.commands.diff", revision)
    assert (done.returncode, done.stderr) == (2, line)


def test_a_summary_with_the_marks_of_a_merge_is_one_line(tmp_path):
    commit(tmp_path, summary("a", a=0.5), seed=0)
    (tmp_path / "metrics/details/summary.json").write_text("<<<<<<< HEAD\n{}")
    done = run_in(tmp_path, sys.executable, "-m", "mri.commands.diff", "main")
    line = "error: metrics/details/summary.json is not valid JSON: Expecting value: line 1 column 1 (char 0)\n"
    assert (done.returncode, done.stderr) == (2, line)


# The workflow --------------------------------------------------------------------------------------------------------


def step(name: str) -> dict:
    return next(step for step in WORKFLOW["jobs"]["metrics"]["steps"] if step.get("name", "").startswith(name))


def run_step(folder: Path, make: str, **variables: str) -> subprocess.CompletedProcess:
    """Run the workflow step that writes the comparison as GitHub would, with the script `make` in place of make."""
    (folder / "bin").mkdir()
    (folder / "bin/make").write_text(f"#!/bin/sh\n{make}\n")
    (folder / "bin/make").chmod(0o755)
    shell = WORKFLOW.get("defaults", {}).get("run", {}).get("shell")
    options = ["--noprofile", "--norc", "-eo", "pipefail"] if shell == "bash" else ["-e"]
    env = {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "GITHUB_BASE_REF": "main"}
    env |= {"GITHUB_STEP_SUMMARY": str(folder / "summary.md")} | variables
    return run_in(folder, "bash", *options, "-c", step("Write the comparison")["run"], **env)


def test_a_comparison_that_fails_fails_its_step_of_the_workflow(tmp_path):
    assert run_step(tmp_path, "echo error: there was no run to compare with >&2; exit 2").returncode != 0


def test_the_workflow_writes_the_comparison_for_the_comment_and_into_the_summary(tmp_path):
    assert run_step(tmp_path, 'echo "$@"').returncode == 0
    for name in ("comparison.md", "summary.md"):
        assert (tmp_path / name).read_text() == "--silent diff REV=origin/main\n"


def test_in_a_workflow_links_lead_to_the_head_commit_and_changed_pictures_are_shown(tmp_path):
    blobs = step("Write the comparison")["env"]["BLOBS"]
    assert blobs.endswith("/${{ github.repository }}/blob/${{ github.event.pull_request.head.sha }}")
    commit(tmp_path, summary("a", a=0.5), seed=0)
    (tmp_path / "plots/a sheet.png").write_text("1")
    (tmp_path / "plots/b@c d.csv").write_text("1")
    command, address = (sys.executable, "-m", "mri.commands.diff", "main"), "https://github.com/a/b/blob/abc"
    assert run_in(tmp_path, *command, BLOBS=address).stdout.endswith(
        f"`dvc plots diff main`.\n\n- [plots/a sheet.png]({address}/plots/a%20sheet.png)\n\n"
        f"  ![plots/a sheet.png]({address}/plots/a%20sheet.png?raw=true)\n\n"
        f"- [plots/b@c d.csv]({address}/plots/b%40c%20d.csv)\n"
    )
    written = run_in(tmp_path, *command).stdout
    assert written.endswith("- [plots/a sheet.png](plots/a sheet.png)\n- [plots/b@c d.csv](plots/b@c d.csv)\n")


def test_the_workflow_links_the_overlaid_plots_that_it_uploads(tmp_path):
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/dvc").write_text("#!/bin/sh\n")
    (tmp_path / ".venv/bin/dvc").chmod(0o755)
    names = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "a/b", "GITHUB_RUN_ID": "12"}
    names |= {"GITHUB_BASE_REF": "main", "GITHUB_STEP_SUMMARY": "summary.md"}
    assert run_in(tmp_path, "bash", "-c", step("Overlay the plots")["run"], **names).returncode == 0
    link = "\n[All plots, overlaid](https://github.com/a/b/actions/runs/12#artifacts)\n"
    assert (tmp_path / "comparison.md").read_text() == (tmp_path / "summary.md").read_text() == link
    (upload,) = [step["with"] for step in WORKFLOW["jobs"]["metrics"]["steps"] if "upload" in step.get("uses", "")]
    assert upload == {"name": "plots", "path": "dvc_plots"}


def test_nothing_is_posted_where_a_forks_token_may_not():
    assert step("Post it")["if"] == "github.event.pull_request.head.repo.full_name == github.repository"
