"""The settings of a run: what each means and may be. Rules over several are in `rules`.

`docs/reference/settings.md` is generated from the docstrings here; one string below each field
documents it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, Any

from hydra.core.config_store import ConfigStore
from msgspec import Meta
from omegaconf import MISSING

from nmt_feat.config.bounds import (
    AtLeast0,
    AtLeast1,
    Beam,
    NotNegative,
    PairOfShares,
    Positive,
    Share,
    ShareBelow1,
    one_of,
)
from nmt_feat.config.data_schema import AnnotatorConfig, DataConfig, SubwordConfig
from nmt_feat.config.inference_schema import ScoreConfig, TranslateConfig


@dataclass
class FeatureConfig:
    """One linguistic feature of the source words; its key under `features` is its name."""

    _target_: str = "nmt_feat.features.Categorical"
    """Class of its embedder."""
    kind: str | None = None
    """How values of `column` are read: `nmt_feat.features.ValueParts`, `ValueCharacters` or
    `Numbers`, or a user-defined class derived from `nmt_feat.features.FeatureKind`; default by
    `column`, `file` and `encoder`."""
    column: str = MISSING
    """`upos`, `xpos`, `lemma`, `deprel`, `feats`, `feats.Case` (any one attribute), `misc.NER` (any
    key of one's own in CoNLL-U's last column), `sentence.formality` (any value of the whole
    sentence, see `data.train.labels`), `head_upos`, `head_position`, `head_distance`,
    `tree_depth`, `subword_tag` or `shape`; or units:
    `char`, `syllable`, `jamo` or `ngram`; or the whole `form`, or in `lower` case; or `context`,
    the vectors of `encoder`."""
    of: Annotated[str, one_of("piece", "word")] = "piece"
    """Whose units or form: of each `piece`, or of the `word` that it belongs to."""
    file: str | None = None
    """Ready-made vectors of forms in word2vec's, GloVe's or fastText's text format, maybe gzipped;
    `max_values` are then the first ones, whatever the corpus has."""
    encoder: str | None = None
    """Folder of an encoder of Hugging Face whose states are the vectors of pieces."""
    layer: int = -2
    """Of the encoder: 0 for its embeddings, 1 the first layer, -1 the last."""
    precision: Annotated[str, one_of("float16", "float32")] = "float16"
    """Of the encoder's stored vectors: `float16` or `float32`."""
    live: bool = False
    """Whether the encoder is part of the model, in place of vectors that are stored beforehand;
    `precision` is then the model's."""
    trained: bool = False
    """Whether an encoder in the model is trained along with it."""
    learning_rate: Positive | None = None
    """Highest learning rate of a trained encoder; default that of the optimiser."""
    n: AtLeast1 = 3
    """Length of the units of `ngram`, in characters."""
    bins: AtLeast1 = 32
    """How many different numbers a feature of numbers has at most. Where train has more, each
    counts as the nearest of so many, which stand for equal shares of the words."""
    dim: AtLeast1 | None = None
    """Width of its embedding where the combiner leaves it free; default by `combiner.widths`."""
    max_values: AtLeast1 | None = None
    """Keep only the most frequent values; the others are unknown."""
    min_count: AtLeast1 = 1
    """Rarer values are unknown."""
    policy: Annotated[str, one_of("copy", "first", "tag")] = "copy"
    """Which pieces of a word carry its value: `copy` (all) or `first` (the others are inside); or
    `tag`, for a value of the whole sentence: a token of its own before the sentence."""
    cover: Annotated[str, one_of("first", "join")] | None = None
    """What a piece that covers several words carries: the value of the `first`, or those of all,
    in order, as one: `join` (`PROPN+ADP`). Default `join` for annotators of morphemes, such as
    Kiwi, else `first`; units and ready-made vectors have `first` only."""
    missing: Annotated[str, one_of("error", "unknown")] = "error"
    """Sentences without annotation, or pieces that the encoder does not read: an `error`, or
    `unknown` values, which are counted."""
    dropout: Share = 0.0
    """Share of tokens whose value is unknown at random, anew in each update of training; drawn for
    each feature by itself, as is `sentence_dropout`."""
    sentence_dropout: Share = 0.0
    """Share of sentences in which all values are unknown at random, in training."""
    erase: Share = 0.0
    """Share of words whose value is unknown in all splits and when translating, the same for the
    whole run; drawn from its seed, all features lose the same words. For experiments."""
    classes: AtLeast1 | None = None
    """Give each value one of so many classes, drawn from the run's seed. For experiments."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class."""


@dataclass
class CombinerConfig:
    """How the word's and the features' embeddings become one vector; one schema for all."""

    _target_: str | None = None
    """Class of the combiner; none for the words-only baseline, which drops the features."""
    name: str | None = None
    """How tables and folders of runs call it. A file of `conf/combiner` gives its own name, where
    that is not the name of its class."""
    widths: Annotated[str, one_of("default", "tutorial", "sennrich", "equal")] = "default"
    """Widths of features where the combiner leaves them free: `default`, `tutorial`, `sennrich`, or
    `equal`, as the word's."""
    bias: float | None = None
    """Initial value of the gate's bias (combiners that have one; their default is 0)."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class."""


@dataclass
class MethodConfig:
    """Where features enter the model; the default leaves it to the combiner."""

    _target_: str = "nmt_feat.methods.Embedding"
    """Class of the method, derived from `nmt_feat.methods.Method`."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class."""


@dataclass
class ModelConfig:
    """The Transformer (Vaswani et al. 2017), pre-norm; or a pretrained model."""

    folder: str | None = None
    """Folder of a pretrained translation model of Hugging Face, to whose words features are added;
    sizes and pieces are then its own."""
    languages: list[str] = field(default_factory=list)
    """Of a pretrained model of several languages, its names of source and target language; default
    `data.source_lang` and `data.target_lang`."""
    prefix: str | None = None
    """Of other pretrained models, text before each source that says what to do, such as T5's
    `translate English to German:` or Marian's `>>de<<`; it has no features."""
    dim: AtLeast1 = 128
    """Width of the model."""
    ffn_dim: AtLeast1 = 256
    """Inner width of the feed-forward layers."""
    heads: AtLeast1 = 4
    """Attention heads; divides `dim`."""
    encoder_layers: AtLeast1 = 4
    """Layers of the encoder."""
    decoder_layers: AtLeast1 = 4
    """Layers of the decoder."""
    dropout: ShareBelow1 = 0.1
    """Dropout of embeddings and of the outputs of attention and feed-forward layers."""
    attention_dropout: ShareBelow1 = 0.0
    """Dropout of attention weights; above 0 attention is slower on CPU."""
    activation_dropout: ShareBelow1 = 0.0
    """Dropout inside the feed-forward layers, after the ReLU."""
    tie: Annotated[str, one_of("target", "all")] = "target"
    """`target`: target table = output layer; `all`: the source's word table as well."""
    source_words: bool = True
    """Whether the source pieces have embeddings of their own, which combiners take as the word;
    false: the features alone, such as units of the pieces, the first in the word's place."""
    source_vectors: str | None = None
    """Ready-made vectors from which the source's word table starts, in word2vec's, GloVe's or
    fastText's text format, maybe gzipped; as wide as the combiner makes the word."""
    source_frozen: bool = False
    """Whether the rows of the table that have such a vector stay as they are."""
    embedding_std: Positive | None = None
    """Standard deviation of every table at the start; default 1/sqrt(dim)."""


@dataclass
class OptimizerConfig:
    """Optimiser and learning-rate schedule."""

    _target_: str = "torch.optim.AdamW"
    """Class of the optimiser."""
    lr: Positive = 2e-3
    """Highest learning rate."""
    betas: PairOfShares = field(default_factory=lambda: [0.9, 0.98])
    """Adam's decay rates of the moments."""
    eps: Positive = 1e-9
    """Adam's epsilon; like the others of Adam, only for classes that have `betas`."""
    weight_decay: NotNegative = 0.0
    """Weight decay, decoupled by AdamW."""
    schedule: Annotated[str, one_of("inverse_sqrt", "cosine", "linear", "constant")] = (
        "inverse_sqrt"
    )
    """`inverse_sqrt`, `cosine`, `linear` or `constant`, each after a linear warm-up."""
    warmup: AtLeast0 = 400
    """Steps of linear warm-up."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class."""


@dataclass
class TrainerConfig:
    """The training loop."""

    max_steps: AtLeast1 = 1000
    """Updates at most."""
    batch_tokens: AtLeast1 = 4096
    """Tokens of a batch at most: sentences times the longest, of the side that `batch_by` says."""
    batch_by: Annotated[str, one_of("larger", "target")] = "larger"
    """`larger`: neither side of a batch has more tokens than `batch_tokens`; `target`: only the
    target side is counted, so that batches hold nearly as many target tokens as they may."""
    accumulate: AtLeast1 = 1
    """Batches per update (and per process)."""
    clip_norm: NotNegative = 1.0
    """Largest gradient norm; 0 for no clipping."""
    max_skipped: AtLeast1 = 10
    """Updates in a row that are skipped as loss or gradient is not finite, before training ends."""
    label_smoothing: ShareBelow1 = 0.1
    """Mass that label smoothing spreads over the vocabulary."""
    precision: Annotated[str, one_of("32-true", "bf16-mixed")] = "32-true"
    """`32-true`, or `bf16-mixed` where it pays (weights, sums and the softmax of attention stay in
    fp32)."""
    fused_loss: bool = True
    """Loss and its gradient in chunks, without batch x vocabulary logits; false: plain PyTorch."""
    validate_every: AtLeast1 = 100
    """Updates between validations, and between checkpoints."""
    patience: AtLeast0 = 0
    """Validations without a better dev BLEU, or an equal one with a lower dev loss, after which
    training stops; 0: never."""
    select: Annotated[str, one_of("best", "average")] = "best"
    """The weights that are tested: `best` (dev BLEU; where it is equal, the lower dev loss) or
    `average` (of the last checkpoints)."""
    select_metric: str = "bleu"
    """The metric on dev that `select` and `patience` go by: `bleu`, or another of `metrics`."""
    average: AtLeast1 = 5
    """Number of last validated checkpoints that `average` averages."""
    devices: AtLeast1 = 1
    """Processes, each with one device (data-parallel)."""
    accelerator: Annotated[str, one_of("auto", "cpu", "cuda", "gpu", "mps")] = "auto"
    """`auto`, `cpu`, `cuda` ... (Lightning Fabric's names)."""
    threads: AtLeast0 = 0
    """CPU threads of a process; 0: PyTorch's choice, divided by `devices`. Fixes the exact bits."""
    deterministic: bool = False
    """Deterministic CUDA kernels (CPU always is)."""
    resume_exact: bool = True
    """Refuse to resume with another number of processes or threads, which changes the last bits."""
    wait_minutes: Annotated[float, Meta(gt=0, le=10080)] = 30.0
    """Minutes that one of several processes waits for another one, before all end with an error."""
    log_every: AtLeast1 = 20
    """Updates between lines of the training log."""
    progress: bool = True
    """Show a progress bar on a terminal."""


@dataclass
class DecodingConfig:
    """Search."""

    beam: Beam = 5
    """Beam size; 1 is greedy search."""
    length_penalty: NotNegative = 1.0
    """Exponent a of the length in score / length**a; 0 for no normalisation."""
    max_ratio: NotNegative = 2.0
    """Output pieces at most: ratio times source pieces plus `max_extra`."""
    max_extra: AtLeast1 = 20
    """See `max_ratio`."""
    batch_tokens: AtLeast1 = 8192
    """Source tokens times beam per batch at most."""
    nbest: AtLeast1 = 1
    """Hypotheses written per sentence; at most `beam`."""
    stop: Annotated[str, one_of("proven", "likely")] = "proven"
    """When the search of a sentence ends. `proven`: no unfinished hypothesis can come among the n
    best, at any length. `likely`: none would if it ended now; a little less work, and a few
    translations differ."""
    refill: bool = False
    """Whether the beam stays as wide as it was when hypotheses end, as in `generate` of Hugging
    Face; if not, each takes a place in it."""


@dataclass
class LoraConfig:
    """LoRA (Hu et al. 2022) in a pretrained model: of its layers products of two matrices are
    trained, which are added to their weights; the weights stay."""

    rank: AtLeast1 | None = None
    """Rank of the products; without it there is no LoRA."""
    alpha: Positive = 16.0
    """A product is multiplied by alpha / rank."""
    dropout: ShareBelow1 = 0.0
    """Dropout of what the products read."""
    modules: list[str] = field(default_factory=list)
    """Names in the paths of layers, such as `q_proj`, `self_attn`, `decoder` or
    `encoder.layers.0`; default the projections of queries and values."""


@dataclass
class InitConfig:
    """Weights that a run starts from: those of a trained run, or of `model.folder`."""

    run: str | None = None
    """Its folder. Embeddings are taken piece by piece and value by value, by name, all else where
    shape and meaning agree; the rest starts anew."""
    freeze: list[str] = field(default_factory=list)
    """Parts that stay as they are there, such as `encoder`, `decoder.0` or `target.words` (of a
    pretrained model `words`, `encoder`, `decoder.layers.0`); what is new in them is trained."""
    lr: Positive | None = None
    """Highest learning rate of what is taken, with LoRA of its matrices; default `optimizer.lr`,
    that of all else."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """LoRA in a pretrained model."""


@dataclass
class LoggerConfig:
    """Where a training's numbers go beside the screen; never changes the result."""

    _target_: str = MISSING
    """A class derived from `nmt_feat.runs.loggers.Logger`."""
    args: dict[str, Any] = field(default_factory=dict)
    """Its arguments."""


@dataclass
class MetricConfig:
    """A score of the translations. Never changes the trained model, unless it selects it."""

    _target_: str = MISSING
    """A class derived from `nmt_feat.evaluation.metric.Metric`."""
    args: dict[str, Any] = field(default_factory=dict)
    """Its arguments."""


@dataclass
class PathsConfig:
    """Where things are written."""

    runs: str = "runs"
    """Folder of the run folders."""
    cache: str = "cache"
    """Folder of downloads, annotation and prepared data, shared by all runs."""


@dataclass
class LocalConfig:
    """A machine's own paths, in `conf/local/default.yaml`; no part of a run."""

    runs: str = "runs"
    """`paths.runs`, where no command gives another."""
    cache: str = "cache"
    """`paths.cache`, likewise."""
    data: dict[str, str] = field(default_factory=dict)
    """Folders of corpora by their names: `multi30k: /data/multi30k`."""
    models: dict[str, str] = field(default_factory=dict)
    """Models of annotators by their names: `udpipe: /models/german.udpipe`."""


@dataclass
class PublishedConfig:
    """Figures of a paper that a report shows in a table of their own; they change nothing."""

    source: str | None = None
    """Where they stand."""
    settings: str | None = None
    """Corpus, model and scoring that they were made with."""
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    """By system, its scores by test set and metric."""
    no_full: str | None = None
    """Why there is no `scale=full`."""


@dataclass
class TrainConfig:
    """`train.py`: one run."""

    data: DataConfig = field(default_factory=DataConfig)
    annotator: AnnotatorConfig = field(default_factory=AnnotatorConfig)
    subword: SubwordConfig = field(default_factory=SubwordConfig)
    features: dict[str, FeatureConfig] = field(default_factory=dict)
    combiner: CombinerConfig = field(default_factory=CombinerConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)
    logger: dict[str, LoggerConfig] = field(default_factory=dict)
    metrics: dict[str, MetricConfig] = field(default_factory=dict)
    paths: PathsConfig = field(default_factory=PathsConfig)
    local: LocalConfig = field(default_factory=LocalConfig)
    published: PublishedConfig = field(default_factory=PublishedConfig)
    scale: Annotated[str, one_of("reduced", "full")] | None = None
    """Of an experiment after a paper: `full` with the paper's data, sizes and schedule, where its
    data can be had, or `reduced`, what a machine of two cores does in hours. The report says it; a
    `full` whose other settings the command line changes is `reduced`."""
    control: Annotated[
        str, one_of("none", "shuffled", "resampled", "by_type", "dummy", "matched")
    ] = "none"
    """What the features are replaced by: `none` (nothing), `shuffled` and `resampled` (values of
    other words, anew in every epoch), `by_type` (random ones for each word type), `dummy` (the same
    for all words); or `matched`: words only, with as many parameters as `combiner` has, by
    `model.ffn_dim`."""
    seed: AtLeast0 = 1
    """Seeds weights, data order and dropout; never the subword model or the corpus."""
    name: str | None = None
    """A name for the run in its record, loggers and model card; default that of its folder."""
    tags: list[str] = field(default_factory=list)
    """Words to choose the run by, as `report --where tags=WORD`; in loggers too. Those of a later
    command are added."""
    license: str | None = None
    """Licence of the trained model, for its card; its name on the Hub, such as `cc-by-4.0`."""
    resume: str | None = None
    """Folder of an unfinished run to start from its checkpoint, with settings that do not change
    what it has done, such as a larger `trainer.max_steps`. (The same command needs no such thing.)
    """

    @property
    def uses_annotator(self) -> bool:
        """Whether features or terms read what an annotator says."""
        return bool(self.features) or self.data.terminology.needs_lemmas


@cache
def register_schemas() -> None:
    """Store the schemas under the names that `conf/*.yaml` take as their first default."""
    store = ConfigStore.instance()
    store.store(name="train_schema", node=TrainConfig)
    store.store(name="translate_schema", node=TranslateConfig)
    store.store(name="score_schema", node=ScoreConfig)
    store.store(name="members", node={})  # see nmt_feat/config/members.py
