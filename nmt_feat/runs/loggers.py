"""Loggers that take a training's numbers; a failing logger never ends the training."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger

from nmt_feat.config.instantiate import build_object
from nmt_feat.config.schema import LoggerConfig
from nmt_feat.errors import UserError, suggest
from nmt_feat.extras import import_optional


class Logger(ABC):
    """Takes the numbers of one training; its arguments are those of `logger.<name>.args`.

    Constructed before data is read, where a wrong argument or a missing package is a `UserError`.
    """

    run_name: str | None = None
    """The run's name, if it differs from its folder's; name and tags are set before `open`."""
    run_tags: Sequence[str] = ()
    takes_reports = False
    """Whether it has `log_report`."""

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Begin to log: training starts or continues in this folder."""

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take numbers by name, after `step` updates."""

    @abstractmethod
    def close(self) -> None:
        """End; the logged numbers stay."""

    def log_report(self, runs: Path, name: str, paths: Sequence[Path]) -> None:
        """Take the files of a sweep's report, in place of a training.

        Args:
            runs: the folder of the run folders.
            name: the sweep's.
            paths: its tables, figures and page.
        """
        raise NotImplementedError


class FabricLogger(Logger):
    """A logger of Lightning Fabric, which `open` creates."""

    logger: CSVLogger | TensorBoardLogger

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write numbers."""
        self.logger.log_metrics(dict(values), step)

    def close(self) -> None:
        """Write buffered numbers."""
        self.logger.finalize("finished")


class CSV(FabricLogger):
    """Lightning Fabric's CSV logger: `csv/version_N/metrics.csv`, with a new N for each start."""

    def open(self, folder: Path) -> None:
        """Begin a file."""
        self.logger = CSVLogger(folder, name="csv", flush_logs_every_n_steps=1)


class TensorBoard(FabricLogger):
    """Lightning Fabric's TensorBoard logger: event files in the run's folder `tensorboard`."""

    takes_reports = True

    def __init__(self) -> None:
        import_optional("tensorboard", "logger=tensorboard", "tensorboard")

    def open(self, folder: Path) -> None:
        """Begin a file of events."""
        self.logger = TensorBoardLogger(folder, name="tensorboard", version="")
        for name, text in (("name", self.run_name), ("tags", ", ".join(self.run_tags))):
            if text:
                self.logger.experiment.add_text(name, text)

    def log_report(self, runs: Path, name: str, paths: Sequence[Path]) -> None:
        """Write tables as text, and figures as images, into the sweep's folder `tensorboard`."""
        logger = TensorBoardLogger(paths[0].parent, name="tensorboard", version="")
        for path in paths:
            if path.suffix == ".md":
                logger.experiment.add_text(path.stem, path.read_text(encoding="utf-8"))
            elif path.suffix == ".png":
                from matplotlib.image import imread

                logger.experiment.add_image(path.stem, imread(path), dataformats="HWC")
        logger.finalize("finished")


class WandB(Logger):
    """Weights & Biases: a run with the folder's name, continued when training continues.

    Args:
        project: the project of the run.
        mode: `online`, or `offline`: stored in the run's folder, for `wandb sync`.
    """

    takes_reports = True

    def __init__(self, project: str = "nmt_feat", mode: str = "online") -> None:
        self.wandb = import_optional("wandb", "logger=wandb", "wandb")
        self.project, self.mode = project, mode
        if mode not in (modes := ("online", "offline")):
            raise UserError(f"logger.wandb.args.mode={mode}: unknown; {suggest(mode, modes)}")

    def open(self, folder: Path) -> None:
        """Begin or continue the run; output on the screen is not sent."""
        name, tags = self.run_name or folder.name, list(self.run_tags)
        self.run: Any = self._begin_run(folder, folder.name, name=name, tags=tags)

    def _begin_run(self, folder: Path, id: str, **options: Any) -> Any:
        return self.wandb.init(
            **{"project": self.project, "mode": self.mode, "dir": str(folder)},
            **{"id": id, "resume": "allow", **options},
            settings=self.wandb.Settings(console="off"),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers."""
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        """Send or write buffered numbers."""
        self.run.finish()

    def log_report(self, runs: Path, name: str, paths: Sequence[Path]) -> None:
        """Log the files as an artifact of a separate run."""
        run = self._begin_run(runs, name, name=name, job_type="report")
        artifact = self.wandb.Artifact(name, type="report")
        for path in paths:
            artifact.add_file(str(path))
        run.log_artifact(artifact)
        run.finish()


class MLflow(Logger):
    """MLflow: a run with the folder's name, continued when training continues; needs no server.

    Args:
        experiment: the experiment of the runs.
        uri: of the store; default a folder `mlruns` beside the runs, for `mlflow ui`.
    """

    FOLDER_TAG = "nmt_feat.folder"
    """Tag of an MLflow run: the folder whose training it logs."""
    takes_reports = True

    def __init__(self, experiment: str = "nmt_feat", uri: str | None = None) -> None:
        # Without it, newer versions refuse a store of files, which needs no database.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self.mlflow = import_optional("mlflow", "logger=mlflow", "mlflow")
        self.experiment, self.uri = experiment, uri

    def open(self, folder: Path) -> None:
        """Begin or continue the run."""
        self._begin_run(folder.parent, folder.name)
        for tag in self.run_tags:
            self.client.set_tag(self.run_id, tag, "")

    def _begin_run(self, runs: Path, name: str) -> None:
        """Create the client; find the run of a folder, or create it."""
        uri = self.uri or (runs / "mlruns").absolute().as_uri()
        self.client: Any = self.mlflow.MlflowClient(tracking_uri=uri)
        experiment = self._find_experiment()
        runs_of_folder = self.client.search_runs(
            [experiment], f"tags.`{self.FOLDER_TAG}` = '{name}'", max_results=1
        )
        if runs_of_folder:
            self.run_id = runs_of_folder[0].info.run_id
            self.client.update_run(self.run_id, status="RUNNING")
        else:
            tags = {self.FOLDER_TAG: name}
            run = self.client.create_run(experiment, run_name=self.run_name or name, tags=tags)
            self.run_id = run.info.run_id

    def _find_experiment(self) -> str:
        experiment = self.client.get_experiment_by_name(self.experiment)
        if experiment is None:
            try:
                return str(self.client.create_experiment(self.experiment))
            except self.mlflow.MlflowException:  # another run of the sweep has just created it
                experiment = self.client.get_experiment_by_name(self.experiment)
        return str(experiment.experiment_id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers."""
        for name, value in values.items():
            self.client.log_metric(self.run_id, name, value, step=step)

    def close(self) -> None:
        """End the run."""
        self.client.set_terminated(self.run_id)

    def log_report(self, runs: Path, name: str, paths: Sequence[Path]) -> None:
        """Log the files as artifacts of a separate run."""
        self._begin_run(runs, name)
        for path in paths:
            self.client.log_artifact(self.run_id, str(path))
        self.client.set_terminated(self.run_id)


def make_loggers(configs: Mapping[str, LoggerConfig]) -> dict[str, Logger]:
    """The loggers by name; wrong settings are a `UserError`."""
    return {
        name: build_object(config._target_, Logger, config.args) for name, config in configs.items()
    }


class Loggers:
    """Several loggers as one. A logger that fails is reported and not called again.

    Args:
        loggers: by name.
        folder: the run's folder.
        say: prints a line for the user.
        name: the run's name, if it differs from its folder's.
        tags: the run's tags.
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
        """Give numbers to each logger."""
        self._call_all(lambda logger: logger.log(values, step))

    def close(self) -> None:
        """End each logger."""
        self._call_all(lambda logger: logger.close())
        self._loggers.clear()

    def _call_all(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                call(logger)
            except (Exception, SystemExit) as error:  # a package may raise anything
                del self._loggers[name]
                reason = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
                self._say(f"logger={name} failed ({reason}); training goes on without it")
