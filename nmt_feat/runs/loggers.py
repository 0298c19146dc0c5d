"""Where a training's numbers go beside the screen; what fails there never ends the training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from nmt_feat.config.instantiate import build_object
from nmt_feat.config.schema import LoggerConfig
from nmt_feat.errors import UserError, suggest
from nmt_feat.extras import optional


class Logger(ABC):
    """Takes the numbers of one training; its arguments are those of `logger.<name>.args`.

    Constructed before data is read, where a wrong argument or a missing package is a `UserError`.
    """

    run_name: str | None = None
    """The run's name, if it has another than its folder; set before `open`, as are its tags."""
    run_tags: Sequence[str] = ()

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Begin: training starts or continues in this folder."""

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers by name, after `step` updates."""

    @abstractmethod
    def close(self) -> None:
        """End; what was logged is kept."""


class OfFabric(Logger):
    """A logger of Lightning Fabric, which `open` makes."""

    logger: CSVLogger | TensorBoardLogger

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers."""
        self.logger.log_metrics(dict(values), step)

    def close(self) -> None:
        """Write what is left."""
        self.logger.finalize("finished")


class CSV(OfFabric):
    """Lightning Fabric's: `csv/version_N/metrics.csv`, another N whenever training starts again."""

    def open(self, folder: Path) -> None:
        """Begin a file."""
        self.logger = CSVLogger(folder, name="csv", flush_logs_every_n_steps=1)


class TensorBoard(OfFabric):
    """Lightning Fabric's: event files in the run's folder `tensorboard`."""

    def __init__(self) -> None:
        optional("tensorboard", "logger=tensorboard", "tensorboard")

    def open(self, folder: Path) -> None:
        """Begin a file of events."""
        self.logger = TensorBoardLogger(folder, name="tensorboard", version="")
        for name, text in (("name", self.run_name), ("tags", ", ".join(self.run_tags))):
            if text:
                self.logger.experiment.add_text(name, text)


class WandB(Logger):
    """Weights & Biases: a run named as the folder, continued when training is.

    Args:
        project: where it is shown.
        mode: `online`, or `offline`: kept in the run's folder, for `wandb sync`.
    """

    def __init__(self, project: str = "nmt_feat", mode: str = "online") -> None:
        self.wandb = optional("wandb", "logger=wandb", "wandb")
        self.project, self.mode = project, mode
        if mode not in (known := ("online", "offline")):
            raise UserError(f"logger.wandb.args.mode={mode}: unknown; {suggest(mode, known)}")

    def open(self, folder: Path) -> None:
        """Begin or continue the run; the screen's output stays here."""
        self.run: Any = self.wandb.init(
            **{"project": self.project, "mode": self.mode, "dir": str(folder)},
            **{"name": self.run_name or folder.name, "tags": list(self.run_tags)},
            **{"id": folder.name, "resume": "allow"},
            settings=self.wandb.Settings(console="off"),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """Send or write what is left."""
        self.run.finish()


def make_loggers(configs: Mapping[str, LoggerConfig]) -> dict[str, Logger]:
    """The loggers by name; wrong settings are a `UserError`."""
    return {
        name: build_object(config._target_, Logger, config.args) for name, config in configs.items()
    }


class Loggers:
    """Several loggers as one. One that fails is left out from then on, which is said once.

    Args:
        loggers: by name.
        folder: the run's.
        say: takes a line for the user.
        name: the run's, if it has another than its folder.
        tags: the run's.
    """

    def __init__(
        self,
        loggers: Mapping[str, Logger],
        folder: Path,
        say: Callable[[str], None],
        name: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        self._loggers, self._say = dict(loggers), say
        for logger in self._loggers.values():
            logger.run_name, logger.run_tags = name, tags
        self._call_all(lambda logger: logger.open(folder))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Give numbers to each."""
        self._call_all(lambda logger: logger.log(values, step))

    def close(self) -> None:
        """End each."""
        self._call_all(lambda logger: logger.close())
        self._loggers.clear()

    def _call_all(self, work: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                work(logger)
            except (Exception, SystemExit) as error:  # whatever a package may do
                del self._loggers[name]
                reason = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
                self._say(f"logger={name} failed ({reason}); training goes on without it")
