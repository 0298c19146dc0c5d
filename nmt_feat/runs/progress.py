"""Shows the progress of training: a bar on a terminal, else a line for each validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from nmt_feat.base.terminal import literal


class Progress:
    """Phase, step, loss, speed, time left, last dev BLEU.

    Args:
        console: where to print.
        enabled: whether to print at all (the first of several processes does).
        bar: whether to draw a bar, if the console is a terminal.
    """

    log: Callable[[Mapping[str, float], int], None] | None = None
    """If set, it gets the numbers by name, and the number of updates before them."""

    def __init__(self, console: Console, enabled: bool = True, bar: bool = True) -> None:
        self.console = console
        self.enabled = enabled
        self.current_work = "the start of training"
        """The work that the processes do together, for messages."""
        self.bar = Bar(
            TextColumn("{task.description:<10}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}{task.fields[speed]}{task.fields[bleu]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (enabled and bar and console.is_terminal),
        )
        self.task = self.bar.add_task("training", loss="", speed="", bleu="")

    def print_line(self, text: str) -> None:
        """Print a line, which stays one also where a console is narrow."""
        if self.enabled:
            self.console.print(literal(text), soft_wrap=True)

    def show_start(self, step: int, total: int) -> None:
        """Begin at `step` of `total` updates."""
        self.bar.reset(self.task, completed=step, total=total)
        self.bar.start()

    def show_phase(self, name: str, work: str) -> None:
        """Show the current work by its short name; `work` is its full name."""
        self.current_work = work
        self.bar.update(self.task, description=name)

    def show_update(self, step: int, loss: float, speed: float) -> None:
        """Show the mean loss per token (nats) and target tokens per second."""
        line, rate = f"loss {loss:.2f}  ", f"{speed:,.0f} tokens/s"
        self.bar.update(self.task, completed=step, description="training", loss=line, speed=rate)
        if self.log:
            self.log({"train/loss": loss, "train/tokens_per_second": speed}, step)

    def show_validation(self, step: int, bleu: float, perplexity: float, loss: float) -> None:
        """Show a validation; without a bar, as a line."""
        line = f"  dev BLEU {bleu:.1f}"
        self.bar.update(self.task, completed=step, description="training", bleu=line)
        if self.log:
            self.log({"dev/bleu": bleu, "dev/perplexity": perplexity}, step)
        if self.bar.disable:
            speed = self.bar.tasks[0].fields["speed"]  # empty before the first line of the log
            self.print_line(
                f"step {step}: loss {loss:.3f}, dev perplexity per piece "
                f"{perplexity:.2f}, dev BLEU {bleu:.1f}{speed and ', '}{speed}"
            )

    def show_work(self, name: str) -> AbstractContextManager[object]:
        """Within, show the current work without the bar."""
        return self.console.status(literal(name)) if self.enabled else nullcontext()

    def show_end(self) -> None:
        """Remove the bar."""
        if not self.bar.disable:
            self.bar.stop()
