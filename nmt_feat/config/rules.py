"""Rules over several settings, checked before any data is read; a broken rule is a `UserError`.

The bounds of a single setting stand beside its field in the schema, see `bounds`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

from nmt_feat.config.bounds import refuse_out_of_bounds
from nmt_feat.config.data_schema import (
    AnnotatorConfig,
    NoiseConfig,
    SubwordConfig,
    TerminologyConfig,
)
from nmt_feat.config.identity import is_combiner_name
from nmt_feat.config.inference_schema import ScoreConfig, TranslateConfig
from nmt_feat.config.schema import (
    InitConfig,
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)
from nmt_feat.errors import UserError

SUBWORD_KINDS = {
    "min_count": ("none", "given"),
    "character_coverage": ("bpe", "unigram"),
    "byte_fallback": ("bpe", "unigram"),
    "split_at_words": ("bpe", "unigram"),
}
"""Settings of `subword` that only some kinds of subwords use, with these kinds."""


def check_settings(cfg: TrainConfig) -> None:
    """Refuse settings that cannot work, alone or together."""
    refuse_out_of_bounds(cfg)
    refuse_empty_folders(
        {"resume": cfg.resume, "paths.runs": cfg.paths.runs, "paths.cache": cfg.paths.cache}
    )
    _check_scale(cfg)
    _check_model(cfg)
    _check_init(cfg)
    _check_objective(cfg)
    _check_decoding(cfg)
    _check_compile(cfg)
    _check_tests(cfg)
    _check_combiner_name(cfg.combiner.name)
    if not all(tag.strip() for tag in cfg.tags):
        raise UserError("tags: one of them is empty; write words: tags=[ablation,draft]")
    check_annotator(cfg.annotator)
    _check_tags(cfg.data.terminology)
    for name in cfg.features:
        _check_feature_name(name)


def refuse_empty_folders(folders: Mapping[str, str | None]) -> None:
    """Refuse folders without a name, as of an unset variable: `resume=$RUN`.

    `resume=` trained from the start, and a sweep with `paths.runs=` wrote to the system's root.
    """
    for setting, folder in folders.items():
        if folder == "":
            raise UserError(f"{setting}=: give the name of a folder, or leave it out")


def _check_scale(cfg: TrainConfig) -> None:
    """Refuse a scale without a paper's experiment, and a full scale that is not available."""
    if cfg.scale and not cfg.published.source:
        raise UserError(
            f"scale={cfg.scale}: needs the experiment of a paper; choose one, such as "
            "experiment=wu2021_tiny, or leave it out"
        )
    if cfg.scale == "full" and cfg.published.no_full:
        raise UserError(f"scale=full: {cfg.published.no_full}; leave scale=reduced")


def _check_model(cfg: TrainConfig) -> None:
    """Refuse sizes and tables of the model that do not go together."""
    model = cfg.model
    if not model.folder and model.dim % model.heads:  # heads of T5 have a width of their own
        raise UserError(
            f"model.heads={model.heads} does not divide model.dim={model.dim} "
            f"({model.dim} = {model.heads} * {model.dim // model.heads} + "
            f"{model.dim % model.heads}); change one of them"
        )
    if model.tie == "all" and not cfg.subword.joint:
        raise UserError(
            "model.tie=all needs one vocabulary for both sides; set subword.joint=true or "
            "model.tie=target"
        )
    _check_source_table(model)
    _check_pretrained(model)
    if model.source_frozen:
        _refuse_decay(cfg.optimizer, "model.source_frozen=false")


def _check_source_table(model: ModelConfig) -> None:
    """Refuse settings of the source's word table that contradict each other or its absence."""
    if not model.source_words:
        about_table = ["model.tie=all"] if model.tie == "all" else []
        if model.source_vectors:
            about_table.append(f"model.source_vectors={model.source_vectors}")
        if about_table:
            raise UserError(
                f"model.source_words=false: {about_table[0]} is about the words' table, which is "
                "then absent; leave one of them out"
            )
    if model.source_vectors and model.tie == "all":
        raise UserError(
            f"model.source_vectors={model.source_vectors}: with model.tie=all the table is the "
            "target's as well; set model.tie=target"
        )
    if model.source_frozen and not model.source_vectors:
        raise UserError("model.source_frozen=true: set model.source_vectors=FILE, or leave it")


def _check_objective(cfg: TrainConfig) -> None:
    """Refuse denoising with settings that exclude it, and settings of noise without denoising."""
    data = cfg.data
    if data.objective == "translate":
        if data.noise != NoiseConfig():
            raise UserError(
                "data.noise: is for data.objective=denoise; set that, or leave data.noise out"
            )
        return
    if not cfg.subword.joint:
        raise UserError(
            "data.objective=denoise subword.joint=false: the source is the target too; set "
            "subword.joint=true"
        )
    if cfg.model.folder:
        raise UserError(
            f"data.objective=denoise model.folder={cfg.model.folder}: a pretrained model "
            "translates; leave one of them out"
        )
    if data.terminology.is_applied:
        raise UserError(
            f"data.objective=denoise data.terminology.glossary={data.terminology.glossary}: terms "
            "are for translations; set data.terminology.mode=none, or leave the glossary out"
        )


def _check_pretrained(model: ModelConfig) -> None:
    """Refuse a pretrained model without a folder, and settings of such a model without it."""
    if model.folder == "":
        raise UserError("model=pretrained: give the folder of the model, model.folder=FOLDER")
    if model.prefix and not model.folder:
        raise UserError(
            f"model.prefix={model.prefix}: is for a pretrained model; set model.folder=FOLDER, or "
            "leave it out"
        )
    if model.languages and (not model.folder or len(model.languages) != 2):
        raise UserError(
            f"model.languages=[{','.join(model.languages)}]: give source and target language of a "
            "pretrained model (model.folder=FOLDER), or leave it out"
        )


def _check_init(cfg: TrainConfig) -> None:
    """Refuse settings of a start from other weights without these, or with a second start."""
    init = cfg.init
    if init.run == "":  # as of an unset variable: init.run=$RUN
        raise UserError("init.run=: give the folder of a run, or leave it out")
    _check_lora(init, cfg.model.folder)
    if not init.run and not cfg.model.folder:
        for name, value in (("freeze", init.freeze), ("lr", init.lr)):
            if value:
                raise UserError(
                    f"init.{name}: needs weights that were trained before; set init.run=FOLDER, "
                    "or leave it out"
                )
        return
    if init.run and cfg.model.source_vectors:
        raise UserError(
            f"init.run={init.run} model.source_vectors={cfg.model.source_vectors}: both give the "
            "source's word table; leave one of them out"
        )
    if init.run and init.freeze:
        _refuse_decay(cfg.optimizer, "leave init.freeze out")


def _refuse_decay(optimizer: OptimizerConfig, advice: str) -> None:
    """Refuse weight decay, which frozen rows of a table do not escape; SGD has it in `args`."""
    args = {f"args.{name}": value for name, value in optimizer.args.items()}
    for name in ("weight_decay", "args.weight_decay"):
        if value := ({"weight_decay": optimizer.weight_decay} | args).get(name):
            raise UserError(
                f"optimizer.{name}={value}: frozen rows would decay; set it to 0, or {advice}"
            )


def _check_lora(init: InitConfig, folder: str | None) -> None:
    """Refuse LoRA without a rank or without a pretrained model, and together with `freeze`."""
    rank = init.lora.rank
    for name, value in vars(init.lora).items():
        if rank is None and value != getattr(LoraConfig(), name):
            raise UserError(f"init.lora.{name}={value}: set init.lora.rank, or leave it out")
    if rank and not folder:
        raise UserError(
            f"init.lora.rank={rank}: is for a pretrained model; set model.folder=FOLDER, or leave "
            "it out"
        )
    if rank and init.freeze:
        raise UserError(
            f"init.lora.rank={rank} init.freeze=[{','.join(init.freeze)}]: with LoRA all weights "
            "of the pretrained model stay as they are; leave init.freeze out"
        )


def _check_decoding(cfg: TrainConfig) -> None:
    """Refuse more translations of a sentence than the beam has, and settings of CUDA on a CPU."""
    if cfg.decoding.nbest > cfg.decoding.beam:
        raise UserError(
            f"decoding.nbest={cfg.decoding.nbest} is above "
            f"decoding.beam={cfg.decoding.beam}; set decoding.beam={cfg.decoding.nbest}"
        )
    if cfg.trainer.deterministic and cfg.trainer.accelerator == "cpu":
        raise UserError("trainer.deterministic=true is for CUDA; on CPU leave it out")


def _check_compile(cfg: TrainConfig) -> None:
    """Refuse to compile layers where that does not work, or would not give what is asked for."""
    if not cfg.trainer.compile:
        return
    if cfg.trainer.accelerator in ("cpu", "mps"):  # `auto` is refused when the device is chosen
        raise UserError(
            f"trainer.compile=true is for CUDA; with trainer.accelerator={cfg.trainer.accelerator} "
            "leave it out"
        )
    if cfg.trainer.deterministic:
        raise UserError(
            "trainer.compile=true trainer.deterministic=true: kernels depend on the batch for "
            "which they were compiled, so a continued run has other last bits; leave one of them "
            "out"
        )
    if cfg.model.folder:
        raise UserError(
            f"trainer.compile=true model.folder={cfg.model.folder}: is for models that are trained "
            "from the start, not for a pretrained one; leave trainer.compile out"
        )


def _check_tests(cfg: TrainConfig) -> None:
    """Refuse a corpus without test sets, and names with which files cannot begin."""
    if not cfg.data.tests:
        raise UserError("data.tests is empty; give a test set, as conf/data/files.yaml does")
    for name in cfg.data.tests:
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise UserError(f"data.tests.{name}: a name has letters, digits, _ . + and - only")


def _check_combiner_name(name: str | None) -> None:
    """Refuse a name with which a run's folder cannot begin, and that of words only."""
    if name is not None and not is_combiner_name(name):
        raise UserError(
            f"combiner.name={name}: a name has letters, digits, _ . and - only, and is not none"
        )


def _check_tags(terminology: TerminologyConfig) -> None:
    """Refuse tags that are not three different words."""
    tags = terminology.tags
    if len(tags) != 3 or len(set(tags)) != 3 or any(len(tag.split()) != 1 for tag in tags):
        raise UserError(
            f"data.terminology.tags=[{','.join(tags)}]: give three different words without spaces: "
            "the tags that begin a term, stand before its translation, and end it"
        )


def check_annotator(annotator: AnnotatorConfig) -> None:
    """Refuse settings of one annotator where several are combined, and parts without a class."""
    if not annotator.parts:
        return
    for name in ("_target_", "model", "args"):
        if value := getattr(annotator, name):
            first = next(iter(annotator.parts))
            raise UserError(
                f"annotator.{name}={value}: several annotators are combined; say whose it is: "
                f"annotator.{first}.{name}=..."
            )
    for name, part in annotator.parts.items():
        if part._target_ is None:
            raise UserError(
                f"annotator={'+'.join(annotator.parts)}: {name} is not an annotator; leave it out"
            )


def _check_feature_name(name: str) -> None:
    """Refuse names that a module of the model cannot have."""
    if name == "word":
        raise UserError("features.word: the name of the words themselves; choose another")
    if not name.isidentifier():
        raise UserError(f"features.{name}: a name has letters, digits and _ only")
    if hasattr(nn.ModuleDict(), name):
        raise UserError(f"features.{name}: a name that PyTorch uses; choose another")


def check_inference(cfg: TranslateConfig | ScoreConfig) -> None:
    """Refuse settings of `translate.py` and `score.py` that cannot work, alone or together."""
    refuse_out_of_bounds(cfg)
    if isinstance(cfg, TranslateConfig) and cfg.beam is not None and cfg.beam < cfg.nbest:
        raise UserError(f"beam={cfg.beam}: must be at least nbest={cfg.nbest}")


def unused_subword_settings(subword: SubwordConfig) -> dict[str, str]:
    """The changed settings that this kind of subwords does not use, each with a reason."""
    return {
        name: f"is for {' and '.join(kinds)}, not for subword={subword.kind}"
        for name, kinds in SUBWORD_KINDS.items()
        if subword.kind not in kinds and getattr(subword, name) != getattr(SubwordConfig, name)
    }
