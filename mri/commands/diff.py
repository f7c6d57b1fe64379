"""Compare this run with another commit's, as Markdown: python -m mri.commands.diff [REV]

    make diff REV=main

Shows the winner, every network's scores and costs before and after, the parameters that differ and the plots whose
files differ. Pull requests get the same text as a comment; their workflow sets $BLOBS, the address of the commit's
files on GitHub, and changed pictures are shown.
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
COSTS = {"latency_ms_p50": "latency, ms", "size_mb": "size, MB"}


def compare(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return the winner and a table of scores and costs of two runs, each as in metrics/details/summary.json."""
    parts = [f"**Winner: {_change(before['winner'], after['winner'])}**"]
    differing = [key for key in ("dataset", "data_version", "protocol") if before[key] != after[key]]
    parts += [f"The {key.replace('_', ' ')} differs: {_change(before[key], after[key])}." for key in differing]
    rows = []
    for name in dict.fromkeys([*before["models"], *after["models"]]):
        rows += _rows(name, before["models"].get(name), after["models"].get(name))
    return "\n\n".join([*parts, _table(["network", "on test images", "before", "after", "change"], rows)])


def _change(before: str, after: str) -> str:
    return f"{after} (as before)" if before == after else f"{before} → {after}"


def _rows(name: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[list[str]]:
    if before is None or after is None:
        return [[name, "new" if before is None else "removed", "", "", ""]]
    rows = []
    for key, title in SCORES.items():
        if key in before["test"] and key in after["test"]:  # missed tumours need a tumour-free class
            old, new = before["test"][key], after["test"][key]
            moved = 100 * (new["value"] - old["value"])
            change = f"{moved:+.1f} points" if moved else "same"
            rows.append([name, f"{title}, %", interval(old), interval(new), change])
    for key, title in COSTS.items():
        moved = 100 * (after[key] / before[key] - 1)
        rows.append([name, title, f"{before[key]:.1f}", f"{after[key]:.1f}", f"{moved:+.0f} %" if moved else "same"])
    return rows


def parameters(before: dict[str, Any], after: dict[str, Any]) -> str:
    """Return a table of the parameters that differ; "" where none does."""
    pairs = {key: [str(values.get(key, "missing")) for values in (before, after)] for key in {*before, *after}}
    rows = [[key, *pair] for key, pair in sorted(pairs.items()) if pair[0] != pair[1]]
    return _table(["parameter", "before", "after"], rows) if rows else ""


def _table(header: list[str], rows: list[list[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *escaped))


def report(revision: str) -> str:
    """Return the comparison of the working tree with a commit. Raises UserError where one of them has no run."""
    after = read_json(SUMMARY)
    if not _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"):
        raise UserError(f"{revision!r} is no commit, branch or tag of this repository")
    name = f"{revision}:{SUMMARY.as_posix()}"
    if not (before := _git("show", name)):
        raise UserError(f"{revision} has no {SUMMARY}: there was no run to compare with")
    parts = [f"## Metrics against {revision}", compare(parse_json(before, name), after)]
    old = parse_yaml(_git("show", f"{revision}:{FILE}"), f"{revision}:{FILE}") or {}
    if table := parameters(flatten(old), flatten(parse_yaml(FILE.read_text(encoding="utf-8"), str(FILE)))):
        parts += ["## Parameters", table]
    plots = _git("diff", "--name-only", revision, "--", PLOTS.as_posix()).splitlines()
    plots += _git("ls-files", "--others", "--exclude-standard", "--", PLOTS.as_posix()).splitlines()
    if plots:
        advice = f"To overlay them: `dvc plots diff {revision}`."
        parts += ["## Plots that differ", advice, "\n".join(map(_item, plots))]
    return "\n\n".join(parts) + "\n"


def _item(path: str) -> str:
    """Return a list item that links to a file, and shows it if it is a picture on GitHub."""
    if not Path(path).is_file():
        return f"- {path} (removed)"
    if not (blobs := os.environ.get("BLOBS")):
        return f"- [{path}]({path})"
    address = f"{blobs}/{quote(path)}"
    picture = f"\n\n  ![{path}]({address}?raw=true)\n" if Path(path).suffix in (".png", ".jpg") else ""
    return f"- [{path}]({address}){picture}"


def _git(*arguments: str) -> str:
    """Return what git prints; "" where it refuses."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def main() -> None:
    parser = Parser("mri.commands.diff", __doc__)
    parser.add_argument("revision", nargs="?", default="main", help="a commit, branch or tag; main when left out")
    print(report(parser.parse_args().revision), end="")


if __name__ == "__main__":
    guarded(main)
