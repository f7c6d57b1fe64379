"""Show how a run ended, as `make repro` does: python -m mri.commands.overview

The stages that ran with their seconds, the winner with its score, and what to do next.
"""

from __future__ import annotations

from mri.base.cli import Parser, guarded
from mri.base.files import read_json
from mri.base.paths import REPORT, SCORES
from mri.base.timing import StageTime, stage_times


def table(times: list[StageTime]) -> str:
    """Return a line per stage with its seconds and CPU seconds, and their sums."""
    if not times:
        return "Nothing to do: every stage is up to date."
    total = StageTime(f"{len(times)} stages", sum(row.seconds for row in times), sum(row.cpu_seconds for row in times))
    width = max(len(row.stage) for row in (*times, total))
    lines = [f"{'stage':<{width}}  seconds  CPU seconds"]
    lines += [f"{row.stage:<{width}}  {row.seconds:7.0f}  {row.cpu_seconds:11.0f}" for row in (*times, total)]
    return "\n".join(lines)


def ending() -> str:
    """Return the winner beside the best trivial classifier, where the report is, and the next command."""
    winner, trivial = (read_json(SCORES / f"{name}.json") for name in ("winner", "best_trivial"))
    return (
        f"winner: {winner['name']}, macro-F1 {winner['macro_f1']:.3f} on test images "
        f"(best trivial classifier: {trivial['macro_f1']:.3f})\n"
        f"report: {REPORT / 'report.html'}\n"
        "next:   make serve"
    )


def main() -> None:
    Parser("mri.commands.overview", __doc__).parse_args()
    print(f"\n{table(stage_times())}\n\n{ending()}")


if __name__ == "__main__":
    guarded(main)
