"""How this run differs from another commit's, as Markdown: python -m mri.commands.diff [REV]

    make diff REV=main

The winner and whether it changed, every network's scores and costs before and after, parameters that differ, and the
plots whose files differ. Pull requests get the same text as a comment, which shows changed pictures; its links lead to
$HEAD_COMMIT: $GITHUB_SHA is there a merge that nobody made.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mri.base.cli import Parser, guarded
from mri.base.errors import UserError
from mri.base.files import parse_json, read_json
from mri.base.intervals import value
from mri.base.params import FILE, parse_yaml
from mri.base.paths import DETAILS, PLOTS
from mri.report.tables import interval
from mri.tracking.run import flatten

SUMMARY = DETAILS / "summary.json"
SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "missed_tumour_rate": "missed tumours",
}
PICTURES = (".png", ".jpg")
COSTS = {"latency_ms_p50": "latency, ms", "size_mb": "size, MB"}


def compare(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Two runs' metrics/details/summary.json as the headline and one table; "same" where nothing moved."""
    lines = [f"**Winner: {_changed(before['winner'], after['winner'])}**", ""]
    for key in ("dataset", "data_version", "protocol"):
        if before[key] != after[key]:
            lines += [f"Not the same {key.replace('_', ' ')}: {_changed(before[key], after[key])}.", ""]
    lines += ["| network | on test images | before | after | change |", "| --- | --- | --- | --- | --- |"]
    for name in dict.fromkeys([*before["models"], *after["models"]]):
        lines += _rows(name, before["models"].get(name), after["models"].get(name))
    return "\n".join(lines)


def _changed(before: str, after: str) -> str:
    return f"{after} (as before)" if before == after else f"{before} → {after}"


def _rows(name: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[str]:
    if before is None or after is None:
        return [f"| {name} | {'new' if before is None else 'gone'} | | | |"]
    rows = []
    for key, title in SCORES.items():
        if key not in before["test"] or key not in after["test"]:  # missed tumours, where no class is tumour-free
            continue
        old, new = before["test"][key], after["test"][key]
        moved = 100 * (value(new) - value(old))
        change = f"{moved:+.1f} points" if moved else "same"
        rows.append(f"| {name} | {title}, % | {interval(old)} | {interval(new)} | {change} |")
    for key, title in COSTS.items():
        moved = 100 * (after[key] / before[key] - 1)
        change = f"{moved:+.0f} %" if moved else "same"
        rows.append(f"| {name} | {title} | {before[key]:.1f} | {after[key]:.1f} | {change} |")
    return rows


def parameters(before: dict[str, Any], after: dict[str, Any]) -> str:
    """A table of the parameters that differ; "" where none does."""
    rows = []
    for key in sorted(set(before) | set(after)):
        old, new = (str(values.get(key, "not there")).replace("|", "\\|") for values in (before, after))
        if old != new:
            rows.append(f"| {key} | {old} | {new} |")
    return "\n".join(["| parameter | before | after |", "| --- | --- | --- |", *rows]) if rows else ""


def report(revision: str) -> str:
    """The whole comparison of the working tree with a commit. Raises UserError where one of them has no run."""
    if not SUMMARY.is_file():
        raise UserError(f"{SUMMARY} does not exist: run `dvc repro` first")
    if not _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"):
        raise UserError(f"{revision!r} is no commit, branch or tag of this repository")
    name = f"{revision}:{SUMMARY.as_posix()}"
    before = _git("show", name)
    if not before:
        raise UserError(f"{revision} has no {SUMMARY}: there was no run to compare with")
    parts = [f"## Metrics against {revision}", compare(parse_json(before, name), read_json(SUMMARY))]
    old = parse_yaml(_git("show", f"{revision}:{FILE}"), f"{revision}:{FILE}") or {}
    if table := parameters(flatten(old), flatten(parse_yaml(FILE.read_text(encoding="utf-8"), str(FILE)))):
        parts += ["## Parameters", table]
    pictures = _git("diff", "--name-only", revision, "--", PLOTS.as_posix()).splitlines()
    pictures += _git("ls-files", "--others", "--exclude-standard", "--", PLOTS.as_posix()).splitlines()
    if pictures:
        drawn = f"Drawn over one another: `dvc plots diff {revision}`{_plots_of_the_workflow()}."
        parts += ["## Plots that differ", drawn, "\n".join(_listed(path) for path in pictures)]
    return "\n\n".join(parts) + "\n"


def _listed(path: str) -> str:
    """A file of this working tree as an item of a list: a link; in a GitHub workflow with the picture, if it is one."""
    if not Path(path).is_file():
        return f"- {path} (gone)"
    commit = os.environ.get("HEAD_COMMIT") or os.environ.get("GITHUB_SHA")
    if not ((repository := _on_github()) and commit):
        return f"- [{path}]({path})"
    link = f"- [{path}]({repository}/blob/{commit}/{quote(path)})"
    picture = f"\n\n  ![{path}]({repository}/raw/{commit}/{quote(path)})\n"
    return link + (picture if Path(path).suffix in PICTURES else "")


def _plots_of_the_workflow() -> str:
    """Where a GitHub workflow leaves the plots of both, drawn over one another; "" outside of one."""
    repository, run = _on_github(), os.environ.get("GITHUB_RUN_ID")
    return f", as the workflow did: [plots]({repository}/actions/runs/{run}#artifacts)" if repository and run else ""


def _on_github() -> str:
    """The repository's address in a GitHub workflow; "" outside of one."""
    server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    return f"{server}/{repository}" if server and repository else ""


def _git(*arguments: str) -> str:
    """What git prints; "" where it refuses."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def main() -> None:
    parser = Parser("mri.commands.diff", __doc__)
    parser.add_argument("revision", nargs="?", default="main", help="a commit, branch or tag; main when left out")
    print(report(parser.parse_args().revision), end="")


if __name__ == "__main__":
    guarded(main)
