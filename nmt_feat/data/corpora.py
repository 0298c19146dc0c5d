"""A parallel corpus as the config describes it: its files are located, downloaded and checked."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmt_feat.annotators.base import Annotator
from nmt_feat.annotators.texts import fingerprint_of, make_annotators
from nmt_feat.config.data_schema import AnnotatorConfig, DataConfig, SplitConfig
from nmt_feat.config.earlier_formats import MERGED
from nmt_feat.config.members import PUBLIC_SET
from nmt_feat.data.annotated_text import FACTOR, LABELS
from nmt_feat.data.download import download_file
from nmt_feat.data.sacrebleu_sets import find_sacrebleu_file
from nmt_feat.data.sentence_tables import Format, SentenceTable
from nmt_feat.errors import UserError, suggest
from nmt_feat.text import formats
from nmt_feat.text.factored import SEPARATORS
from nmt_feat.text.factors import check_factors
from nmt_feat.text.files import hash_file_cached, list_shards, read_blocks
from nmt_feat.text.normalization import rules_of_file

SAMPLE_SIZE = 100
"""How many lines of a file of JSON lines are read to see whether it has words."""


@dataclass
class RawSplit:
    """Sentence pairs of one split, row by row."""

    name: str
    key: str  # in the config
    files: dict[str, Path]  # by role: source, target, and maybe conllu, raw, `factors.upos` ...
    form: Format  # of the source
    source_path: str  # for messages
    has_words: bool = False  # whether its files have words to which an annotator adds columns
    source: SentenceTable = field(init=False)
    target: SentenceTable = field(init=False)


@dataclass
class RawCorpus:
    """The splits before subwords and vocabularies."""

    train: RawSplit
    dev: RawSplit
    tests: dict[str, RawSplit]
    fingerprint: str  # a hash of the content of all files, and of the annotator
    training_sum: str  # the same for train and dev
    test_sums: dict[str, str]  # the same for each test set
    notes: list[str]  # for the user: missing test sets, tokens without annotation ...
    rules: dict[str, set[str]]  # by split, the rules of normal form that change its text
    keys: tuple[str, ...] = ()  # the keys of sentence values that features read
    normal: bool = True  # whether text is brought into normal form, as in all but old runs
    sources: dict[str, list[str]] = field(default_factory=dict)
    """By column of the annotation, where it comes from; only if there are several sources."""

    @property
    def splits(self) -> list[RawSplit]:
        """Train, dev and the test sets."""
        return [self.train, self.dev, *self.tests.values()]


def has_annotation(config: DataConfig, annotator: AnnotatorConfig) -> bool:
    """Whether train has an annotation, from its files or from the annotator."""
    split = config.train
    in_files = split.conllu or split.factors or read_kind(config, split) != "text"
    return bool(annotator.targets or in_files)


def check_corpus(config: DataConfig) -> None:
    """Refuse impossible settings of a corpus, before its files are located."""
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
    """Locate the files of every split; they are not read yet.

    Args:
        config: the corpus.
        annotator: the settings of annotators.
        cache: the folder for downloads.
        annotate: whether words are needed.
        required: whether words are needed in all splits, or only in train.
        keys: the keys of sentence values that are needed; true if all splits need them, false if
            only train does.
    """
    tools = make_annotators(annotator) if annotate else {}
    check_corpus(config)
    locator = _SplitLocator(config, cache, tools, annotator.replace, annotate, required, keys or {})
    splits: dict[str, RawSplit] = {}
    for name, split in {"train": config.train, "dev": config.dev, **config.tests}.items():
        key = f"data.tests.{name}" if name in config.tests else f"data.{name}"
        form = Format(read_kind(config, split), tuple(config.factors))
        of_files = locator.check_annotation(name, key, split, form)
        try:
            splits[name] = locator.locate_files(name, key, split, form, of_files)
        except UserError as error:
            if not split.optional or name not in config.tests:
                raise
            locator.notes.append(f"test set {name} is left out: {error}")
    if config.tests and len(splits) == 2:
        notes = "; ".join(locator.notes)
        raise UserError(f"data={config.name}: no test set was found ({notes})")
    hashed_settings = [config.limit, annotate, _identify_tools(tools.values())]
    return _join_splits(splits, hashed_settings, cache, tuple(locator.keys), locator.notes)


@dataclass(frozen=True)
class _SplitLocator:
    """Checks the annotation of splits, and locates their files."""

    config: DataConfig
    cache: Path
    tools: Mapping[str, Annotator]
    replaces: bool
    """Whether annotators replace the columns of files."""
    annotate: bool
    required: bool
    keys: Mapping[str, bool]
    """For these three see `locate_splits`."""
    notes: list[str] = field(default_factory=list)

    def check_annotation(self, name: str, key: str, split: SplitConfig, form: Format) -> bool:
        """Refuse a split that lacks what features need.

        Args:
            name: of the split.
            key: of the split in the settings.
            split: its settings.
            form: the format of its source.

        Returns:
            Whether words are read from its files.
        """
        tools, annotation = self.tools, name_annotation(split, form)
        is_needed = self.annotate and (self.required or name == "train")
        if is_needed and not tools and not annotation:
            raise UserError(
                f"{key}.source={split.source}: features need annotation; set annotator=udpipe or "
                f"annotator=hanta, or {key}.conllu=FILE.conllu"
            )
        # The annotation of a raw counterpart is not merged with one of the tokens.
        of_files = self.annotate and (not tools or not (self.replaces or split.raw))
        if tools and annotation and not of_files:
            self.notes.append(
                f"{name}: annotated by {' and '.join(tools)}; the annotation in {annotation} is "
                "unused"
            )
        for label, is_required in self.keys.items():
            if is_required or name == "train":
                check_label(split, form, key, label, bool(tools) and not of_files)
        return of_files

    def locate_files(
        self, name: str, key: str, split: SplitConfig, form: Format, of_files: bool
    ) -> RawSplit:
        """The split with the paths of its files; `of_files`: see `check_annotation`."""
        names = list_files(split, bool(self.tools), of_files, list(self.keys))
        files = {
            role: find_file(self.config, self.cache, f"{key}.{role}", n)
            for role, n in names.items()
        }
        may_have_words = bool(self.tools and of_files and name_annotation(split, form))
        has_words = may_have_words and has_columns(files, form)
        return RawSplit(name, key, files, form, str(files["source"]), has_words)


def _identify_tools(tools: Iterable[Annotator]) -> str | list[str] | None:
    """The fingerprints of annotators, in the form that hashes have always had."""
    fingerprints = [fingerprint_of(tool) for tool in tools]
    return fingerprints if len(fingerprints) > 1 else next(iter(fingerprints), None)


def _join_splits(
    splits: Mapping[str, RawSplit],
    hashed_settings: list[Any],
    cache: Path,
    keys: tuple[str, ...],
    notes: list[str],
) -> RawCorpus:
    """Make the corpus of located splits, with hashes of everything that determines its sentences.

    `hashed_settings`: what determines the sentences beside the files.
    """
    rules = {name: find_rules(split, cache) for name, split in splits.items()}
    sums = {name: hash_split(split, cache, notes) for name, split in splits.items()}

    def hash_splits(*names: str) -> str:
        # Read as JSON lines or with factors, the same bytes are other sentences. Plain text and
        # CoNLL-U need no mark, since their content differs.
        forms = [splits[name].form for name in names]
        forms = [form for form in forms if form.factors or form.kind == "jsonl"]
        # In early versions, an annotator replaced the columns of files.
        merged = [MERGED] if any(splits[name].has_words for name in names) else []
        content = [{name: sums[name] for name in names}, *hashed_settings, *forms, *merged]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

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
    """Refuse a split that has no source for the sentence values of `label`."""
    comments = form.kind in ("conllu", "jsonl") or (split.conllu and not by_annotator)
    if label not in split.labels and not comments:
        raise UserError(
            f"{key}: nothing says the {label} of its sentences; set +{key}.labels.{label}=FILE, a "
            f"value a line, or give CoNLL-U with comments (# {label} = ...)"
        )


def name_annotation(split: SplitConfig, form: Format) -> str | None:
    """The names of the files that have the annotation of a split, or None."""
    source = split.source if form.kind != "text" else None
    return split.conllu or ", ".join(split.factors.values()) or source


def has_columns(files: dict[str, Path], form: Format) -> bool:
    """Whether the files of a split have words; JSON lines may have only texts."""
    if form.kind != "jsonl" or form.factors or "conllu" in files:
        return True
    lines = itertools.chain.from_iterable(b.lines() for b in read_blocks(files["source"]))
    return any('"words"' in line for line in itertools.islice(lines, SAMPLE_SIZE))


def list_files(
    split: SplitConfig, by_annotator: bool, of_files: bool, keys: Sequence[str] = ()
) -> dict[str, str]:
    """The names of a split's files, by role (`source`, `conllu`, `factors.upos` ...).

    Args:
        split: its settings.
        by_annotator: whether an annotator annotates it, or its raw counterpart.
        of_files: whether words are read from files.
        keys: the keys of sentence values, which stand in files or in comments of the annotation.
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
    """The sums of the content of a split's files; adds a note about a file in several parts."""
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
    sums += labels  # to know which file belongs to which key
    # "spaces", because early versions with factors in files replaced several spaces by one.
    return [*sums, *factors, "spaces"] if factors else sums


def find_rules(split: RawSplit, cache: Path) -> set[str]:
    """The rules of normal form that change a split's text."""
    rules: set[str] = set()
    for role, path in split.files.items():
        kind = find_format(split, role).kind
        if kind in SEPARATORS or role.startswith(FACTOR):
            kind = "tokens"
        for part in list_shards(path):
            rules |= rules_of_file(part, kind, cache)
    return rules


def find_format(split: RawSplit, role: str) -> Format:
    """The format of a split's file."""
    if role == "source":
        return split.form
    kind = formats.kind_of(split.files[role]) if role == "conllu" else "text"
    return Format("conllu" if role == "conllu" and kind == "text" else kind)


def list_named_files(config: DataConfig) -> list[Path]:
    """All files that the settings name, whether they exist or not."""
    folder = Path(config.folder or ".").expanduser()
    splits = (config.train, config.dev, *config.tests.values())
    names = [n for s in splits for n in (s.source, s.target, s.conllu, s.raw)]
    names += [n for s in splits for n in (*s.factors.values(), *s.labels.values())]
    return [path for name in names if name for path in list_shards(folder / name)]


def check_formats(config: DataConfig) -> None:
    """Refuse formats and factors that contradict each other."""
    if config.format not in (choices := ("auto", *formats.FORMATS)):
        raise UserError(f"data.format={config.format}: unknown; {suggest(config.format, choices)}")
    check_factors(config.factors, "data.factors")
    if config.format in SEPARATORS and not config.factors:
        raise UserError(
            f"data.format={config.format}: name its factors, such as data.factors=[upos,lemma]"
        )
    kinds = set()
    for split in (config.train, config.dev, *config.tests.values()):
        check_factors(list(split.factors), "data: factors of a split")
        kinds.add(kind := read_kind(config, split))
        if split.factors and (split.conllu or kind != "text"):
            raise UserError(
                f"data: {split.source} has factors in files and an annotation in "
                f"{split.conllu or kind}; give one of them"
            )
    if config.factors and not kinds & {*SEPARATORS, "jsonl"}:
        raise UserError(
            f"data.factors=[{','.join(config.factors)}]: the source is read as "
            f"{' and '.join(sorted(kinds))}, whose tokens have none; set data.format=pipe or ffe8, "
            "or leave them out"
        )


def read_kind(config: DataConfig, split: SplitConfig) -> str:
    """The format of a split's source side."""
    return formats.kind_of(split.source) if config.format == "auto" else config.format


def find_file(config: DataConfig, cache: Path, key: str, name: str) -> Path:
    """Find the file `name` of the setting `key`; if its sum is pinned, it is downloaded if needed.

    In `data.folder` the file may be with or without `.gz`. If the corpus is public and `name` is in
    a folder, it may also be there without that folder. `sacrebleu:wmt16` is a file of sacreBLEU.
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
        advice = "correct the name or set data.folder"
        if config.folder is not None and any(path.is_file() for path in list_shards(Path(name))):
            here, base = Path(name).resolve(), folder.resolve()
            whole = here.relative_to(base) if here.is_relative_to(base) else here
            advice = f"names are relative to data.folder, not to the current folder: {key}={whole}"
        raise UserError(f"{key}={name}: no such file in {folder}; {advice}")
    if not (downloads / name).resolve().is_relative_to(cache.resolve()):
        raise UserError(
            f"{key}={name}: would be written to {downloads / name}, outside of paths.cache; "
            "give names without .. (data.name, data.download.sha256)"
        )
    download_file(f"{url.rstrip('/')}/{name}", downloads / name, pinned)
    return downloads / name
