"""The settings of `nmt-feat evaluate`; see `schema`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from omegaconf import MISSING

from nmt_feat.config.bounds import AtLeast1, Beam, NotNegative, Threads, one_of
from nmt_feat.config.data_schema import SplitConfig
from nmt_feat.config.schema import MetricConfig


@dataclass
class FurtherDataConfig:
    """What finished runs are tested on."""

    tests: dict[str, SplitConfig] = field(default_factory=dict)
    """Test sets beside those of the run, by name, as in training. Files are searched in the
    current folder, then in the run's `data.folder`."""


@dataclass
class FurtherDecodingConfig:
    """Another search. The defaults are those of the run."""

    beam: Beam | None = None
    """Size of the beam; 1 is greedy search."""
    length_penalty: NotNegative | None = None
    """Scores are divided by the length to the power of this number."""
    max_ratio: NotNegative | None = None
    """A translation has at most so many times the pieces of its source, plus `max_extra`."""
    max_extra: AtLeast1 | None = None
    """See `max_ratio`."""
    batch_tokens: AtLeast1 | None = None
    """Largest number of source tokens in a batch, times the beam."""
    nbest: AtLeast1 | None = None
    """How many hypotheses of each sentence are written; at most `beam`."""
    stop: Annotated[str, one_of("proven", "likely")] | None = None
    """When the search of a sentence ends, as in training."""
    refill: bool | None = None
    """Whether the beam stays as wide when hypotheses end, as in training."""


@dataclass
class EvaluateConfig:
    """`nmt-feat evaluate`: test finished runs on further sets, by another search or metric."""

    run: str = MISSING
    """Folder of a run, folder of runs, or several by `*` or commas: `runs/gate-*`."""
    ensemble: bool = False
    """Whether to test the runs of each row, its seeds, also as an ensemble, by the mean of their
    probabilities."""
    data: FurtherDataConfig = field(default_factory=FurtherDataConfig)
    decoding: FurtherDecodingConfig = field(default_factory=FurtherDecodingConfig)
    metrics: dict[str, MetricConfig] = field(default_factory=dict)
    cache: str | None = None
    """Folder of downloads, annotation and prepared data; by default `paths.cache` of the run."""
    threads: Threads = 0
    """CPU threads; 0 takes the number of the run, which gives the same bits as training."""
    accelerator: Annotated[str, one_of("auto", "cpu", "cuda", "gpu", "mps")] | None = None
    """Device; by default `trainer.accelerator` of the run."""
