"""Part `arrays`: the prepared data of each kind of feature, format, subword and corpus."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from compare.bench import Bench, Job, JobFailed
from compare.commands import HERE
from compare.facts import FACTS, Facts

PART = "arrays"
DATA = "NMT_FEAT_DATA"
BOTH = ("features=[upos,deprel]",)
VECTORS = ("features=[vectors]", "features.vectors.file=vectors/window.txt")
ENCODER = ("features=[contextual]", "features.contextual.encoder=inputs/encoder", "model.dim=32")
FEATURES: dict[str, tuple[str, ...]] = {
    "vectors": VECTORS,
    "contextual": ENCODER,
    "contextual live": (*ENCODER, "features.contextual.live=true"),
    "contextual first layer": (*ENCODER, "features.contextual.layer=1"),
    "case number": ("features=[case,number]",),
    "policy first": (*BOTH, "features.upos.policy=first"),
    "max_values min_count": (
        *("features=[lemma,xpos]", "features.lemma.max_values=30", "features.xpos.min_count=9"),
    ),
    "char of word": ("features=[char]", "features.char.of=word"),
    "ngram of word": ("features=[ngram]", "features.ngram.of=word", "features.ngram.n=2"),
    "erase": (*BOTH, "features.upos.erase=0.25"),
    "classes": ("features=[lemma]", "features.lemma.classes=16"),
    **{f"control {c}": (*BOTH, f"control={c}") for c in ("shuffled", "resampled", "by_type")},
}
"""Features that need more settings than their file in `conf/features`, or other settings."""
SUBWORDS = {
    "bpe separate": ("subword.joint=false",),
    "unigram": ("subword=unigram",),
    # The 256 bytes are pieces, too.
    "unigram bytes": ("subword=unigram", "subword.byte_fallback=true", "subword.vocab_size=400"),
    "none": ("subword=none", "subword.min_count=2"),
    "coverage": ("subword.character_coverage=0.98",),
}
FILTERS = ("data.min_words=4", "data.max_pieces=20", "data.max_ratio=1.5", "data.limit=200")


def files(
    kind: str, suffix: str, lang: str = "en", target: str = "de", end: str = ""
) -> tuple[str, ...]:
    """Settings of `data=files` for a corpus of `inputs.py`."""
    settings = ["data=files", f"data.source_lang={lang}", f"data.target_lang={target}"]
    settings.append(f"data.folder=inputs/{kind}")
    for split, key in (("train", "train"), ("dev", "dev"), ("test", "tests.test")):
        settings.append(f"data.{key}.source={split}{suffix}")
        settings.append(f"data.{key}.target={split}{end}.{target}")
    return tuple(settings)


FACTORS = "data.factors=[upos,deprel]"
FORMATS: dict[str, tuple[str, ...]] = {
    "text": (*files("text", ".en"), "features=[shape,subword_tag]"),
    "conllu": (*files("conllu", ".conllu"), *BOTH),
    "jsonl": (*files("jsonl", ".jsonl"), *BOTH),
    "pipe": (*files("pipe", ".pipe"), *BOTH, FACTORS, "data.format=pipe"),
    "ffe8": (*files("ffe8", ".ffe8"), *BOTH, FACTORS, "data.format=ffe8"),
    "factor files": (
        *(*files("factors", ".en"), *BOTH),
        *(f"+data.{s}.factors.{c}={n}.{c}" for s, n in (("train", "train"), ("dev", "dev"))
          for c in ("upos", "deprel")),
        *(f"+data.tests.test.factors.{c}=test.{c}" for c in ("upos", "deprel")),
    ),
    "gz": (
        *("data=files", "data.source_lang=en", "data.target_lang=de", "data.folder=inputs/gz"),
        *(f"data.{key}.{side}={split}.{lang}.gz" for split, key in
          (("train", "train"), ("dev", "dev"), ("test", "tests.test"))
          for side, lang in (("source", "en"), ("target", "de"))),
        "features=[shape,subword_tag]",
    ),
    "shards": (
        *("data=files", "data.source_lang=en", "data.target_lang=de", "data.folder=inputs/shards"),
        *(f"'data.{key}.{side}={split}-*.{end}'" for split, key in
          (("train", "train"), ("dev", "dev"), ("test", "tests.test"))
          for side, end in (("source", "conllu"), ("target", "de"))),
        *BOTH,
    ),
    "given": (*files("given", ".en"), "subword=given", "features=[subword_tag,shape]"),
    "tokens": (*files("tokens", ".en"), "data.tokenized=true", "features=[shape,subword_tag]"),
    "korean": (
        *files("korean", ".ko", "ko", "en"),
        *("features=[jamo,syllable]", "subword.character_coverage=1.0"),
    ),
    "filters": (*files("conllu", ".conllu"), *BOTH, *FILTERS),
}  # fmt: skip


def _prepare(settings: tuple[str, ...], models: tuple[str, ...], bench: Bench) -> None:
    for model in models:
        bench.inputs(model)
    plain = tuple(setting.strip("'") for setting in settings)
    outcome = bench.python(
        HERE / "probe.py", bench.folder, *bench.settings("combiner=concat", *plain)
    )
    if outcome.code or not (bench.folder / FACTS).exists():
        raise JobFailed(f"preparing ended with {outcome.code}: {bench.plain(outcome.mistake)}")
    loaded = Facts.load(bench.folder)
    for key, value in loaded.values.items():  # some have names of folders
        bench.facts.values[key] = bench.plain(value) if isinstance(value, str) else value


def _job(name: str, settings: tuple[str, ...], models: tuple[str, ...] = ()) -> Job:
    return Job(PART, name, functools.partial(_prepare, settings, models))


def _of_data(settings: tuple[str, ...], need: str, name: str, *models: str) -> Job:
    """A job for a corpus that is not part of the project."""
    folder = os.environ.get(DATA, "")
    skip = None
    if not folder or not (Path(folder) / need).exists():
        skip = f"{DATA} names no folder that has {need}" if folder else f"{DATA} is not set"
    settings = tuple(setting.replace("DATA", folder) for setting in settings)
    return Job(PART, name, functools.partial(_prepare, settings, models), skip=skip)


def _corpora() -> list[Job]:
    subwords = "subword.vocab_size=1000"
    limit = ("data.limit=1000", subwords)
    whole = "data.folder=${nmt_resource:data/embedded}"
    job_list = [_job("embedded whole", ("data=embedded", whole, *BOTH, subwords))]
    for source, target in (("en", "de"), ("de", "fr"), ("fr", "cs")):
        langs = (f"data.source_lang={source}", f"data.target_lang={target}")
        settings = ("data=multi30k", "data.folder=DATA/multi30k", *langs, "features=[shape,char]")
        job_list.append(_of_data((*settings, *limit), "multi30k", f"multi30k {source}-{target}"))
    tok = ("data=multi30k_tok", "data.folder=inputs/multi30k_tok", "data.limit=300", subwords)
    udpipe = ("annotator=udpipe", "annotator.model=inputs/udpipe", "annotator.processes=1")
    features = ("features=[upos,deprel,lemma,feats,xpos]",)
    job_list.append(
        _of_data((*tok, "features=[shape]"), "multi30k", "multi30k_tok", "multi30k_tok")
    )
    annotated = (*tok, *udpipe, *features)
    models = ("multi30k_tok", "udpipe")
    job_list.append(_of_data(annotated, "multi30k", "multi30k_tok udpipe", *models))
    pieces = "subword.vocab_size=2000"  # its characters alone are a thousand
    korean = ("data=korean", "data.folder=DATA/korean", "data.limit=1000", pieces)
    kiwi = ("annotator=kiwi", "annotator.processes=1", "features=[upos,xpos,lemma]")
    job_list.append(_of_data((*korean, "features=[jamo,syllable]"), "korean", "korean"))
    job_list.append(_of_data((*korean, *kiwi), "korean", "korean kiwi"))
    return job_list


def jobs(base: Path, small: bool) -> list[Job]:
    """A job for each kind."""
    stems = sorted(path.stem for path in (base / "conf" / "features").glob("*.yaml"))
    kinds = {n: (f"features=[{n}]",) for n in stems if n != "vectors"} | FEATURES
    if "contextual" not in stems:
        kinds = {n: s for n, s in kinds.items() if not n.startswith("contextual")}
    if small:
        names = ("upos", "lemma", "char", "vectors", "policy first", "control shuffled")
        job_list = [_job(n, kinds[n]) for n in names]
        formats = ("text", "conllu", "pipe", "gz", "korean")
        return job_list + [_job(f"format {n}", FORMATS[n]) for n in formats]
    job_list = []
    for name, settings in kinds.items():
        models = ("encoder",) if "contextual" in name else ()
        job_list.append(_job(name, settings, models))
    job_list += [_job(f"format {n}", s) for n, s in FORMATS.items()]
    job_list += [_job(f"subword {n}", (*s, *BOTH)) for n, s in SUBWORDS.items()]
    return job_list + _corpora()
