"""The settings of a run: what each means and may be. Rules over several are in `rules`.

`docs/reference/settings.md` is generated from the docstrings here; one string below each field
documents it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

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
    Threads,
    one_of,
)
from nmt_feat.config.data_schema import AnnotatorConfig, DataConfig, SubwordConfig


@dataclass
class FeatureConfig:
    """One linguistic feature of the source words; its key under `features` is its name."""

    _target_: str = "nmt_feat.features.Categorical"
    """Class of its embedder."""
    kind: str | None = None
    """How values of `column` are read: `nmt_feat.features.ValueParts`, `ValueCharacters`,
    `Numbers`, or a class of your own that derives from `nmt_feat.features.FeatureKind`. By default
    `column`, `file` and `encoder` decide."""
    column: str = MISSING
    """What the feature reads. Of the annotation: `upos`, `xpos`, `lemma`, `deprel`, `feats`,
    `feats.Case` (one attribute, any name), `misc.NER` (one key of the last column of CoNLL-U, any
    name), `sentence.formality` (a value of the whole sentence, any name, see
    `data.train.labels`), `head_upos`, `head_position`, `head_distance` or `tree_depth`. Of the
    text: `form`, `lower` (the form in lower case), `shape`, `subword_tag`, or the units `char`,
    `syllable`, `jamo` and `ngram`. `context`: the vectors of `encoder`."""
    of: Annotated[str, one_of("piece", "word")] = "piece"
    """Units or forms are those of each `piece`, or of the `word` that the piece belongs to."""
    file: str | None = None
    """File of ready-made vectors of forms, in the text format of word2vec, GloVe or fastText, also
    gzipped. `max_values` then keeps the first vectors of the file."""
    encoder: str | None = None
    """Folder of a Hugging Face encoder, whose states are the vectors of pieces."""
    layer: int = -2
    """Layer of the encoder: 0 is its embeddings, 1 its first layer, -1 its last layer."""
    precision: Annotated[str, one_of("float16", "float32")] = "float16"
    """Precision of the stored vectors of the encoder."""
    live: bool = False
    """Whether the encoder is part of the model. If not, its vectors are computed once and stored.
    If so, `precision` has no effect."""
    trained: bool = False
    """Whether an encoder in the model is trained, too."""
    learning_rate: Positive | None = None
    """Highest learning rate of a trained encoder; by default that of the optimiser."""
    n: AtLeast1 = 3
    """Length of the units of `ngram`, in characters."""
    bins: AtLeast1 = 32
    """How many different numbers a feature of numbers has at most. If the training text has more,
    so many are chosen, each for an equal share of the words; others count as the nearest."""
    dim: AtLeast1 | None = None
    """Width of its embedding, if the combiner leaves it free; by default `combiner.widths` says."""
    max_values: AtLeast1 | None = None
    """Only so many values are kept, the most frequent ones; the others are unknown."""
    min_count: AtLeast1 = 1
    """Values that occur less often in training are unknown."""
    policy: Annotated[str, one_of("copy", "first", "tag")] = "copy"
    """Which pieces of a word carry its value. `copy`: all. `first`: the first one; the others carry
    a value that means inside. `tag`, for values of whole sentences: none of them; the value is a
    token of its own before the sentence."""
    cover: Annotated[str, one_of("first", "join")] | None = None
    """What a piece carries that covers several words: the value of the `first` word, or the values
    of all words, in order (`join`: `PROPN+ADP`). By default `join` with annotators of morphemes,
    such as Kiwi, and `first` with others. Units and ready-made vectors have `first` only."""
    missing: Annotated[str, one_of("error", "unknown")] = "error"
    """Sentences without annotation, or pieces that the encoder does not read, are an `error`, or
    have `unknown` values, which are counted."""
    dropout: Share = 0.0
    """Share of tokens that get an unknown value in training, drawn anew in each update, and for
    each feature by itself."""
    sentence_dropout: Share = 0.0
    """Share of sentences in which all values are unknown in training, drawn in the same way."""
    erase: Share = 0.0
    """For experiments: share of words whose value is unknown in all splits, and in translation.
    The words are drawn from the seed, once for the run, and are the same for all features."""
    classes: AtLeast1 | None = None
    """For experiments: each value is replaced by one of so many classes, drawn from the seed."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class."""


@dataclass
class CombinerConfig:
    """How the embeddings of a word and of its features become one vector."""

    _target_: str | None = None
    """Class of the combiner; null for words only, which does not read the features."""
    name: str | None = None
    """What tables and folders of runs call it. By default that is the name of its file in
    `conf/combiner`, or of its class."""
    widths: Annotated[str, one_of("default", "tutorial", "sennrich", "equal")] = "default"
    """Widths of features, if the combiner leaves them free; `equal` gives features and word the
    same width. See the page on combiners."""
    bias: float | None = None
    """Initial value of the gate's bias, for combiners with a gate; their default is 0."""
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
    """Folder of a pretrained translation model of Hugging Face, to which features are added. It
    brings its sizes and pieces."""
    languages: list[str] = field(default_factory=list)
    """For a pretrained model of several languages: its names of source and target language. By
    default `data.source_lang` and `data.target_lang`."""
    prefix: str | None = None
    """For other pretrained models: text before each source that says what to do, such as
    `translate English to German:` for T5 or `>>de<<` for Marian. It has no features."""
    dim: AtLeast1 = 128
    """Width of the model."""
    ffn_dim: AtLeast1 = 256
    """Inner width of the feed-forward layers."""
    heads: AtLeast1 = 4
    """Attention heads; `dim` must be a multiple of this number."""
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
    """`target`: the target's table is also the output layer. `all`: the source's table of words,
    too."""
    source_words: bool = True
    """Whether source pieces have embeddings, which combiners take as the word. If not, combiners
    merge the features alone, such as units of the pieces; the first one takes the word's place."""
    source_vectors: str | None = None
    """File of ready-made vectors from which the source's table of words starts, in the text format
    of word2vec, GloVe or fastText, also gzipped. They must be as wide as the word."""
    source_frozen: bool = False
    """Whether rows of the table that start from such a vector are not trained."""
    embedding_std: Positive | None = None
    """Standard deviation of every table at the start; by default 1/sqrt(dim)."""


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
    """Adam's epsilon. Like `weight_decay`, it is only for classes that have `betas`."""
    weight_decay: NotNegative = 0.0
    """Weight decay, decoupled by AdamW."""
    schedule: Annotated[str, one_of("inverse_sqrt", "cosine", "linear", "constant")] = (
        "inverse_sqrt"
    )
    """How the learning rate changes after a linear warm-up."""
    warmup: AtLeast0 = 400
    """Updates of the linear warm-up."""
    args: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the class."""


@dataclass
class TrainerConfig:
    """The training loop."""

    max_steps: AtLeast1 = 1000
    """Largest number of updates."""
    batch_tokens: AtLeast1 = 4096
    """Largest number of tokens in a batch: its sentences times the length of the longest one."""
    batch_by: Annotated[str, one_of("larger", "target")] = "larger"
    """`larger`: neither side of a batch has more tokens than `batch_tokens`. `target`: only the
    target side is counted, so that batches have nearly equal numbers of target tokens."""
    accumulate: AtLeast1 = 1
    """Batches in an update, of each process."""
    clip_norm: NotNegative = 1.0
    """Largest gradient norm; 0 for no clipping."""
    max_skipped: AtLeast1 = 10
    """Training ends after so many updates in a row whose loss or gradient is not finite. Such an
    update is skipped."""
    label_smoothing: ShareBelow1 = 0.1
    """Probability that label smoothing spreads over the vocabulary."""
    precision: Annotated[str, one_of("32-true", "bf16-mixed")] = "32-true"
    """`bf16-mixed` is faster on many processors; weights, sums and the softmax of attention stay in
    fp32."""
    fused_loss: bool = True
    """Whether the loss is computed in chunks, which saves memory. If not, by plain PyTorch."""
    validate_every: AtLeast1 = 100
    """Updates between two validations. Each validation writes a checkpoint."""
    patience: AtLeast0 = 0
    """Training stops after so many validations without a better BLEU on dev; if BLEU is equal, the
    lower loss on dev counts. 0: never."""
    select: Annotated[str, one_of("best", "average")] = "best"
    """Which weights are tested: those with the `best` BLEU on dev (if equal, with the lower loss on
    dev), or the `average` of the last checkpoints."""
    select_metric: str = "bleu"
    """The metric on dev by which `select` and `patience` decide: `bleu`, or another of
    `metrics`."""
    average: AtLeast1 = 5
    """How many checkpoints `select=average` averages."""
    devices: AtLeast1 = 1
    """Processes of a training, each with one device (data-parallel)."""
    accelerator: Annotated[str, one_of("auto", "cpu", "cuda", "gpu", "mps")] = "auto"
    """Which kind of device trains; `auto` takes a GPU if PyTorch sees one."""
    threads: Threads = 0
    """CPU threads of a process; 0 is PyTorch's choice, divided by `devices`. Another number gives
    other last bits."""
    deterministic: bool = False
    """Deterministic CUDA kernels. (On a CPU training is deterministic.)"""
    compile: bool = False
    """Whether PyTorch compiles the layers for training, on CUDA only. The first updates then take
    longer, and results differ in the last digits. Validation and tests run as without it."""
    resume_exact: bool = True
    """Whether to refuse to continue a run with another number of processes or threads, which
    changes the last bits."""
    wait_minutes: Annotated[float, Meta(gt=0, le=10080)] = 30.0
    """How long one of several processes waits for another one, before all end with an error."""
    log_every: AtLeast1 = 20
    """Updates between lines of the training log."""
    progress: bool = True
    """Show a progress bar on a terminal."""


@dataclass
class DecodingConfig:
    """The search for translations."""

    beam: Beam = 5
    """Size of the beam; 1 is greedy search."""
    length_penalty: NotNegative = 1.0
    """Scores are divided by the length to the power of this number; 0: not divided."""
    max_ratio: NotNegative = 2.0
    """A translation has at most so many times the pieces of its source, plus `max_extra`."""
    max_extra: AtLeast1 = 20
    """See `max_ratio`."""
    batch_tokens: AtLeast1 = 8192
    """Largest number of source tokens in a batch, times the beam."""
    nbest: AtLeast1 = 1
    """How many hypotheses of each sentence are written; at most `beam`."""
    stop: Annotated[str, one_of("proven", "likely")] = "proven"
    """When the search of a sentence ends. `proven`: no unfinished hypothesis can become one of the
    n best, at any length. `likely`: none would if it ended now; with `refill`, as in `generate` of
    Hugging Face. This is a little less work without `refill`, and a few translations differ."""
    refill: bool = False
    """Whether the beam stays as wide as it was when hypotheses end, as in `generate` of Hugging
    Face. If not, a finished hypothesis takes a place in the beam."""


@dataclass
class LoraConfig:
    """LoRA (Hu et al. 2022) in a pretrained model. Its weights are not trained. Instead, for some
    layers, two small matrices are trained, whose product is added to the weights."""

    rank: AtLeast1 | None = None
    """Rank of the products. If it is not set, there is no LoRA."""
    alpha: Positive = 16.0
    """A product is multiplied by alpha / rank."""
    dropout: ShareBelow1 = 0.0
    """Dropout of the input of the products."""
    modules: list[str] = field(default_factory=list)
    """Which layers, by names in their paths, such as `q_proj`, `self_attn`, `decoder` or
    `encoder.layers.0`. By default the projections of queries and values."""


@dataclass
class InitConfig:
    """Weights that a run starts from: those of a trained run, or of `model.folder`."""

    run: str | None = None
    """Folder of the trained run. Embeddings are taken by the name of the piece or value, other
    weights if their shape and meaning are the same. All others start anew."""
    freeze: list[str] = field(default_factory=list)
    """Parts that are not trained, such as `encoder`, `decoder.0` or `target.words` (in a pretrained
    model `words`, `encoder`, `decoder.layers.0`). New weights in them are trained."""
    lr: Positive | None = None
    """Highest learning rate of the weights that are taken, or of the matrices of LoRA. All other
    weights have `optimizer.lr`, which is also the default here."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """LoRA in a pretrained model."""


@dataclass
class LoggerConfig:
    """Where the numbers of a training go, beside the screen. It never changes the result."""

    _target_: str = MISSING
    """A class derived from `nmt_feat.runs.loggers.Logger`."""
    args: dict[str, Any] = field(default_factory=dict)
    """Its arguments."""


@dataclass
class MetricConfig:
    """A score of the translations. It changes the tested model only as `trainer.select_metric`."""

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
    """The paths of this machine, in `conf/local/default.yaml`. They do not change a run."""

    runs: str = "runs"
    """`paths.runs`, unless a command gives another."""
    cache: str = "cache"
    """`paths.cache`, unless a command gives another."""
    data: dict[str, str] = field(default_factory=dict)
    """Folders of corpora by their names: `multi30k: /data/multi30k`."""
    models: dict[str, str] = field(default_factory=dict)
    """Models of annotators by their names: `udpipe: /models/german.udpipe`."""


@dataclass
class PublishedConfig:
    """Figures of a paper, which a report shows in a table of their own. They change nothing."""

    source: str | None = None
    """The paper, and the table in it."""
    settings: str | None = None
    """Corpus, model and scoring of the paper."""
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    """For each system of the paper, its scores by test set and metric."""
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
    """For experiments that follow a paper. `full`: the data, sizes and schedule of the paper, if
    the data can be downloaded. `reduced`: a size that two cores can train in hours. The report
    shows it. If the command line changes other settings, `full` becomes `reduced`."""
    control: Annotated[
        str, one_of("none", "shuffled", "resampled", "by_type", "dummy", "matched")
    ] = "none"
    """What the values of features are replaced by. `none`: nothing. `shuffled`: values of other
    words. `resampled`: the same, drawn anew in every epoch. `by_type`: the values of a random word
    for each word form. `dummy`: the same values for all words. Or `matched`: words only, with as
    many parameters as with `combiner`, by `model.ffn_dim`."""
    seed: AtLeast0 = 1
    """Start of the random numbers for weights, order of the data, dropout and controls. It does not
    change the subword model or the corpus."""
    name: str | None = None
    """Name of the run in its record, loggers and model card; by default that of its folder."""
    tags: list[str] = field(default_factory=list)
    """Words by which reports choose runs (`report --where tags=WORD`); loggers have them, too. A
    later command adds its tags."""
    license: str | None = None
    """Licence of the trained model for its model card, such as `cc-by-4.0`."""
    resume: str | None = None
    """Folder of an unfinished run. The run starts from its checkpoint, with settings under which
    this gives the same result, such as a larger `trainer.max_steps`. (To continue an interrupted
    run, give the same command; it does not need this setting.)"""

    @property
    def uses_annotator(self) -> bool:
        """Whether features or terms read what an annotator says."""
        return bool(self.features) or self.data.terminology.needs_lemmas
