"""A parallel corpus as the config describes it: found or downloaded, checked, annotated."""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nmt_feat.annotators.base import fingerprint_of, make_annotators
from nmt_feat.base.resources import find_resource
from nmt_feat.config.data_schema import AnnotatorConfig, DataConfig, DownloadConfig, SplitConfig
from nmt_feat.config.earlier_formats import MERGED
from nmt_feat.config.members import PUBLIC_SET
from nmt_feat.data.annotated_text import FACTOR, LABELS, align_annotation
from nmt_feat.data.download import download_file
from nmt_feat.data.sacrebleu_sets import find_sacrebleu_file
from nmt_feat.data.sentence_tables import Format, SentenceTable
from nmt_feat.errors import UserError, suggest
from nmt_feat.text import formats
from nmt_feat.text.conllu import Sentence, write_label
from nmt_feat.text.files import hash_file_cached, list_shards, read_blocks, read_lines
from nmt_feat.text.normalization import normalize_line, rules_of_file
from nmt_feat.text.sentences import ANNOTATION, HEAD, Sentences

SAMPLE_SIZE = 100
"""Lines of JSON of which one has words, if any has."""


@dataclass
class RawSplit:
    """Sentence pairs of one split, row by row."""

    name: str
    key: str  # in the config
    files: dict[str, Path]  # to use: source, target, and maybe conllu, raw, `factors.upos` ...
    form: Format  # of the source
    source_path: str  # for messages
    has_words: bool = False  # whether its files have words, which an annotator adds columns to
    source: SentenceTable = field(init=False)
    target: SentenceTable = field(init=False)


@dataclass
class RawCorpus:
    """The splits before subwords and vocabularies."""

    train: RawSplit
    dev: RawSplit
    tests: dict[str, RawSplit]
    fingerprint: str  # hash of the content of all files and of the annotator
    training_sum: str  # the same of train and dev alone
    test_sums: dict[str, str]  # the same of each test set
    notes: list[str]  # what the user should know: missing test sets, tokens without annotation ...
    rules: dict[str, set[str]]  # by split: which rules of normal form change its text (normal.py)
    keys: tuple[str, ...] = ()  # of values of whole sentences that features read
    normal: bool = True  # whether they are followed, as in all but old runs
    sources: dict[str, list[str]] = field(default_factory=dict)
    """By column of an annotation where it comes from, if from several sources (merging.py)."""

    @property
    def splits(self) -> list[RawSplit]:
        """Train, dev and the test sets."""
        return [self.train, self.dev, *self.tests.values()]


def has_annotation(config: DataConfig, annotator: AnnotatorConfig) -> bool:
    """Whether train has an annotation, of its own or by the annotator."""
    split = config.train
    in_files = split.conllu or split.factors or read_kind(config, split) != "text"
    return bool(annotator.targets or in_files)


def check_corpus(config: DataConfig) -> None:
    """Refuse settings of a corpus that cannot be, before its files are looked for."""
    if config.folder is not None and not Path(config.folder).expanduser().is_dir():
        raise UserError(f"data.folder={config.folder}: no such folder")
    if clash := {"train", "dev"} & config.tests.keys():
        raise UserError(f"data.tests.{min(clash)}: the name is taken; give the test set another")
    check_formats(config)


def locate_splits(
    config: DataConfig,
    annotator: AnnotatorConfig,
    cache: Path,
    annotate: bool,
    required: bool = True,
    keys: Mapping[str, bool] | None = None,
) -> RawCorpus:
    """The corpus with the files of every split, which are not read yet.

    Args:
        config: the corpus.
        annotator: what annotates it.
        cache: the folder into which missing files are downloaded.
        annotate: whether words are needed.
        required: whether words are needed of all splits, or of train alone.
        keys: of the values of whole sentences that are needed; each with whether it is needed of
            all splits, or of train alone.
    """
    keys = keys or {}
    tools = make_annotators(annotator) if annotate else {}
    check_corpus(config)
    splits: dict[str, RawSplit] = {}
    notes: list[str] = []
    for name, split in {"train": config.train, "dev": config.dev, **config.tests}.items():
        key = f"data.tests.{name}" if name in config.tests else f"data.{name}"
        form = Format(read_kind(config, split), tuple(config.factors))
        annotation = name_annotation(split, form)
        if annotate and not tools and not annotation and (required or name == "train"):
            raise UserError(
                f"{key}.source={split.source}: features need annotation; set annotator=udpipe or "
                f"annotator=hanta, or {key}.conllu=FILE.conllu"
            )
        # The annotation of a raw counterpart is not merged with one of the tokens.
        of_files = annotate and (not tools or not (annotator.replace or split.raw))
        if tools and annotation and not of_files:
            notes.append(
                f"{name}: annotated by {' and '.join(tools)}; the annotation in {annotation} is "
                "unused"
            )
        for label, must_be in keys.items():
            if must_be or name == "train":
                check_label(split, form, key, label, bool(tools) and not of_files)
        try:
            files = {
                role: find_file(config, cache, f"{key}.{role}", file)
                for role, file in list_files(split, bool(tools), of_files, list(keys)).items()
            }
            may_have_words = bool(tools and of_files and annotation)
            has_words = may_have_words and has_columns(files, form)
            splits[name] = RawSplit(name, key, files, form, str(files["source"]), has_words)
        except UserError as error:
            if not split.optional or name not in config.tests:
                raise
            notes.append(f"test set {name} is left out: {error}")
    if config.tests and len(splits) == 2:
        raise UserError(f"data={config.name}: no test set was found ({'; '.join(notes)})")
    tool_sums = [fingerprint_of(tool) for tool in tools.values()]
    tool_sum = tool_sums if len(tool_sums) > 1 else next(iter(tool_sums), None)
    hashed_settings = [config.limit, annotate, tool_sum]  # in the order of earlier hashes
    return _join_splits(splits, hashed_settings, cache, tuple(keys), notes)


def _join_splits(
    splits: Mapping[str, RawSplit],
    hashed_settings: list[Any],
    cache: Path,
    keys: tuple[str, ...],
    notes: list[str],
) -> RawCorpus:
    """The corpus of located splits, with the hashes of what their sentences are.

    `hashed_settings`: what determines the sentences beside the content of files.
    """
    rules = {name: find_rules(split, cache) for name, split in splits.items()}
    sums = {name: hash_split(split, cache, notes) for name, split in splits.items()}

    def hash_splits(*names: str) -> str:
        return _hash_splits({name: (splits[name], sums[name]) for name in names}, hashed_settings)

    train, dev, *tests = splits.values()
    by_name = {test.name: test for test in tests}
    return RawCorpus(
        train,
        dev,
        by_name,
        fingerprint=hash_splits(*splits),
        training_sum=hash_splits("train", "dev"),
        test_sums={name: hash_splits(name) for name in by_name},
        notes=notes,
        rules=rules,
        keys=keys,
    )


def check_label(split: SplitConfig, form: Format, key: str, label: str, by_annotator: bool) -> None:
    """Refuse a split of which nothing can say a value of each sentence."""
    comments = form.kind in ("conllu", "jsonl") or (split.conllu and not by_annotator)
    if label not in split.labels and not comments:
        raise UserError(
            f"{key}: nothing says the {label} of its sentences; set +{key}.labels.{label}=FILE, a "
            f"value a line, or give CoNLL-U with comments (# {label} = ...)"
        )


def _hash_splits(splits: Mapping[str, tuple[RawSplit, Any]], hashed_settings: list[Any]) -> str:
    """A hash of the sums of some splits, and of what else says what their sentences are."""
    # The same bytes are other sentences as JSON; plain text and CoNLL-U differ in content.
    forms = [split.form for split, _ in splits.values()]
    forms = [form for form in forms if form.factors or form.kind == "jsonl"]
    # With an annotator the columns of files were unused once.
    merged = [MERGED] if any(split.has_words for split, _ in splits.values()) else []
    sums = {name: split_sums for name, (_, split_sums) in splits.items()}
    return hashlib.sha256(
        json.dumps([sums, *hashed_settings, *forms, *merged]).encode()
    ).hexdigest()


def name_annotation(split: SplitConfig, form: Format) -> str | None:
    """The files that have the annotation of a split, if any do."""
    source = split.source if form.kind != "text" else None
    return split.conllu or ", ".join(split.factors.values()) or source


def has_columns(files: dict[str, Path], form: Format) -> bool:
    """Whether the files of a split have words; JSON lines may be texts alone."""
    if form.kind != "jsonl" or form.factors or "conllu" in files:
        return True
    lines = itertools.chain.from_iterable(b.lines() for b in read_blocks(files["source"]))
    return any('"words"' in line for line in itertools.islice(lines, SAMPLE_SIZE))


def list_files(
    split: SplitConfig, by_annotator: bool, of_files: bool, keys: Sequence[str] = ()
) -> dict[str, str]:
    """The names of a split's files by what they are for (`source`, `conllu`, `factors.upos`).

    Args:
        split: its settings.
        by_annotator: whether an annotator annotates it, or its raw counterpart.
        of_files: whether words are read from files.
        keys: of values of whole sentences, which stand in files, or in the annotation's comments.
    """
    files = {"source": split.source, "target": split.target}
    if by_annotator:
        files |= {"raw": split.raw or ""}
    if of_files:
        factors = {FACTOR + column: file for column, file in split.factors.items()}
        files |= {"conllu": split.conllu or ""} | factors
    elif not by_annotator and any(key not in split.labels for key in keys):
        files |= {"conllu": split.conllu or ""}
    files |= {LABELS + key: split.labels[key] for key in keys if key in split.labels}
    return {role: file for role, file in files.items() if file}


def hash_split(split: RawSplit, cache: Path, notes: list[str]) -> list[str | list[str] | None]:
    """Sums of a split's files, by their content; a file in parts gets a note."""
    factors = sorted(role for role in split.files if role.startswith(FACTOR))
    labels = sorted(role for role in split.files if role.startswith(LABELS))
    sums: list[str | list[str] | None] = []
    for role in ("source", "target", "conllu", "raw", *factors, *labels):
        parts = list_shards(split.files[role]) if role in split.files else []
        part_sums = [hash_file_cached(path, cache, content=True) for path in parts]
        sums.append(part_sums if len(part_sums) > 1 else next(iter(part_sums), None))
        if len(part_sums) > 1:
            first, last = parts[0].name, parts[-1].name
            notes.append(f"{split.name}: {role} is {len(part_sums)} files, {first} to {last}")
    sums += labels  # which file says which key
    # Factors in files came later, and the spaces of such a text were single ones once.
    return [*sums, *factors, "spaces"] if factors else sums


def find_rules(split: RawSplit, cache: Path) -> set[str]:
    """The rules of normal form that change a split's text."""
    rules: set[str] = set()
    for role, path in split.files.items():
        kind = find_format(split, role).kind
        if kind in formats.SEPARATORS or role.startswith(FACTOR):
            kind = "tokens"
        for part in list_shards(path):
            rules |= rules_of_file(part, kind, cache)
    return rules


def find_format(split: RawSplit, role: str) -> Format:
    """What a file of a split holds."""
    if role == "source":
        return split.form
    kind = formats.kind_of(split.files[role]) if role == "conllu" else "text"
    return Format("conllu" if role == "conllu" and kind == "text" else kind)


def without_download(config: DataConfig, cache: Path) -> DataConfig:
    """The corpus of a run as it is here: somebody else may say in it what to fetch, and whereto."""
    there = cache / config.name if config.download.url else Path(".")
    folder = Path(config.folder).expanduser() if config.folder is not None else there
    if config.name == "embedded" and not folder.is_dir():  # that of another machine, or version
        folder = find_resource("data/embedded")
    return replace(config, folder=str(folder), download=DownloadConfig())


def read_first_test_set(
    config: DataConfig, cache: Path
) -> tuple[list[Sentence], list[str], list[str] | None, str]:
    """The first test set that is here: sentences with the annotation of files, targets, raw text.

    Nothing is downloaded. The last is the source's name, for messages.
    """
    here = without_download(config, cache)
    problems: list[UserError] = []
    for name, split in config.tests.items():
        try:
            return read_test_set(here, cache, f"data.tests.{name}", split)
        except UserError as error:
            problems.append(error)
    raise problems[0] if problems else UserError("it has none")


def read_test_set(
    config: DataConfig, cache: Path, key: str, split: SplitConfig
) -> tuple[list[Sentence], list[str], list[str] | None, str]:
    """One test set: sentences with the annotation of files, targets, raw text, its name."""

    def path(role: str, name: str) -> Path:
        return find_file(config, cache, f"{key}.{role}", name)

    def lines(file: Path) -> list[str]:
        return [line for shard in list_shards(file) for line in read_lines(shard)]

    source = path("source", split.source)
    targets = lines(path("target", split.target))
    raw = lines(path("raw", split.raw)) if split.raw else None
    texts, kind = lines(source), read_kind(config, split)
    if split.factors:
        files = {column: path(FACTOR + column, file) for column, file in split.factors.items()}
        sides = {column: (str(file), lines(file)) for column, file in files.items()}
        sentences = list(formats.parse_parallel(texts, str(source), sides))
    else:
        sentences = list(formats.parse_lines(texts, str(source), kind, config.factors))
    if split.conllu:
        file = path("conllu", split.conllu)
        sentences = _annotate(sentences, file, lines(file), f"{key}: {source}")
    for label, name in split.labels.items():
        values = lines(path(LABELS + label, name))
        if len(values) != len(sentences):
            raise UserError(f"{key}: {source} and {name} differ in their number of sentences")
        sentences = [
            s._replace(comments=(write_label(label, normalize_line(value)), *s.comments))
            for s, value in zip(sentences, values, strict=True)
        ]
    if len(sentences) != len(targets):
        raise UserError(
            f"{key}: {source} has {len(sentences)} sentences, its target has {len(targets)}"
        )
    return sentences, targets, raw, str(source)


def _annotate(
    sentences: list[Sentence], file: Path, lines: list[str], where: str
) -> list[Sentence]:
    """Sentences with the words and comments of the annotation in a file, aligned to their text."""
    form = formats.kind_of(file)
    parsed = formats.parse_lines(lines, str(file), "conllu" if form == "text" else form)
    annotated, is_blank = list(parsed), [not sentence.text.strip() for sentence in sentences]
    if len(annotated) == len(sentences) - sum(is_blank):  # most annotators leave out blank lines
        rows = iter(annotated)
        annotated = [Sentence("") if blank else next(rows) for blank in is_blank]
    if len(annotated) != len(sentences):
        raise UserError(f"{where} and {file} differ in their number of sentences")
    parts = [Sentences.of(annotated), Sentences.of(sentences)]
    aligned = align_annotation((*ANNOTATION, HEAD), file, parts, 0)[0]
    return [
        words._replace(comments=sentence.comments)
        for words, sentence in zip(aligned, annotated, strict=True)
    ]


def list_named_files(config: DataConfig) -> list[Path]:
    """All files that the settings name, whether they are there or not."""
    folder = Path(config.folder or ".").expanduser()
    splits = (config.train, config.dev, *config.tests.values())
    names = [n for s in splits for n in (s.source, s.target, s.conllu, s.raw)]
    names += [n for s in splits for n in (*s.factors.values(), *s.labels.values())]
    return [path for name in names if name for path in list_shards(folder / name)]


def check_formats(config: DataConfig) -> None:
    """Refuse formats and factors that contradict each other."""
    if config.format not in (choices := ("auto", *formats.FORMATS)):
        raise UserError(f"data.format={config.format}: unknown; {suggest(config.format, choices)}")
    formats.check_factors(config.factors, "data.factors")
    if config.format in formats.SEPARATORS and not config.factors:
        raise UserError(
            f"data.format={config.format}: name its factors, such as data.factors=[upos,lemma]"
        )
    kinds = set()
    for split in (config.train, config.dev, *config.tests.values()):
        formats.check_factors(list(split.factors), "data: factors of a split")
        kinds.add(kind := read_kind(config, split))
        if split.factors and (split.conllu or kind != "text"):
            raise UserError(
                f"data: {split.source} has factors in files and an annotation in "
                f"{split.conllu or kind}; give one of them"
            )
    if config.factors and not kinds & {*formats.SEPARATORS, "jsonl"}:
        raise UserError(
            f"data.factors=[{','.join(config.factors)}]: the source is read as "
            f"{' and '.join(sorted(kinds))}, whose tokens have none; set data.format=pipe or ffe8, "
            "or leave them out"
        )


def read_kind(config: DataConfig, split: SplitConfig) -> str:
    """The format of a split's source side."""
    return formats.kind_of(split.source) if config.format == "auto" else config.format


def find_file(config: DataConfig, cache: Path, key: str, name: str) -> Path:
    """The file `name` of the setting `key`, downloaded if its sum is pinned.

    In `data.folder` it may lie with or without `.gz`, one of a public corpus's folders also without
    that folder. `sacrebleu:wmt16` is a file of sacreBLEU's.
    """
    if name.startswith(PUBLIC_SET):
        return find_sacrebleu_file(key, name, config.source_lang, config.target_lang)
    url, pinned = config.download.url, config.download.sha256.get(name)
    downloads = cache / config.name
    folder = downloads if url else Path(".")
    if config.folder is not None:
        folder = Path(config.folder).expanduser()
    if folder != downloads or not pinned:
        names = [name, name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"]
        if Path(name).parent in {Path(file).parent for file in config.download.sha256}:
            names += [Path(file).name for file in names]
        for candidate in names:
            if any(path.exists() for path in list_shards(folder / candidate)):
                return folder / candidate
    if pinned is None or url is None:
        raise UserError(
            f"{key}={name}: no such file in {folder}; correct the name or set data.folder"
        )
    if not (downloads / name).resolve().is_relative_to(cache.resolve()):
        raise UserError(
            f"{key}={name}: would be written to {downloads / name}, out of paths.cache; "
            "give names without .. (data.name, data.download.sha256)"
        )
    download_file(f"{url.rstrip('/')}/{name}", downloads / name, pinned)
    return downloads / name
