"""Times an update of each method and compares it with words only: `python tools/time_methods.py`.

It measures the rows of `experiment=beyond` with one thread. The rows take turns, with updates of
the same batches (cut by target pieces), so that other load on the machine affects all of them. The
figure is the median over rounds. Prepared data comes from the cache, `--cache FOLDER`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import yaml

from nmt_feat.base.resources import find_resource
from nmt_feat.base.terminal import TextConsole, say
from nmt_feat.cli.compose import compose_settings
from nmt_feat.data.batches import collate, plan_batches
from nmt_feat.data.controls import prepare_run
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.setup.starting_model import build_untrained
from nmt_feat.training.objective import Objective


class TimedRow:
    """A row's model, and the first batches of its training."""

    def __init__(self, row: str, count: int, cache: str) -> None:
        settings = ["experiment=beyond", f"row={row}", f"paths.cache={cache}"]
        cfg = resolve_settings(compose_settings(settings), True, TextConsole(stderr=True))
        prepared = prepare_run(cfg)
        model, *_ = build_untrained(cfg, prepared)
        self.objective = Objective(model.train(), cfg.trainer.label_smoothing, fused=True)
        self.optimizer = torch.optim.Adam(model.parameters())
        self.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.length = float(prepared.train.source_lengths.mean())
        names = list(prepared.encoder.features)
        budget = cfg.trainer.batch_tokens
        batches = plan_batches(
            prepared.train, budget, cfg.seed, 0, cfg.trainer.batch_by == "target"
        )
        self.batches = [collate(prepared.train, rows, names) for rows in batches[:count]]

    def update(self) -> None:
        """One update for each batch."""
        for batch in self.batches:
            loss, _ = self.objective(*batch.objective_inputs)
            self.optimizer.zero_grad()
            (loss / batch.tokens).backward()
            self.optimizer.step()


def measure_seconds(action: Callable[[], None]) -> float:
    """The seconds of a call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> None:
    """Print a line of a Markdown table for each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=10, help="of an update each, in a turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each row")
    parser.add_argument("--cache", default="cache", help="folder of prepared data")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = find_resource("conf") / "experiment" / "beyond.yaml"
    names = list(yaml.safe_load(path.read_text(encoding="utf-8"))["rows"])
    names = [name for name in names if not name.endswith(("_shuffled", "_dummy"))]
    rows = {name: TimedRow(name, options.batches, options.cache) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(options.rounds + 1):
        first = number % len(names)  # each turn begins with another row
        for name in (*names[first:], *names[:first]):
            duration = measure_seconds(rows[name].update)
            if number:  # the first turn warms up
                seconds[name].append(duration / options.batches)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    say("| row | source tokens a sentence | parameters | ms an update | against words only |")
    say("|---|---|---|---|---|")
    for name, row in rows.items():
        ratio = medians[name] / medians["none"]
        cells = f"{row.length:.1f} | {row.parameters:,} | {1000 * medians[name]:.1f} | {ratio:.2f}"
        say(f"| {name} | {cells} |")


if __name__ == "__main__":
    main()
