"""A parallel corpus as the config describes it: found or downloaded, checked, annotated."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nmt_feat.corpus import download
from nmt_feat.corpus.annotators import Annotator, annotate_cached, make_annotator
from nmt_feat.corpus.conllu import Sentence, align, is_conllu, project, read_conllu
from nmt_feat.corpus.text import read_lines, sha256
from nmt_feat.errors import UserError
from nmt_feat.schema import AnnotatorConfig, DataConfig, SplitConfig


@dataclass
class RawSplit:
    """Sentence pairs of one split, line by line."""

    name: str
    source: list[Sentence]
    target: list[str]
    source_path: str
    """For messages."""


@dataclass
class RawCorpus:
    """The splits before subwords and vocabularies."""

    train: RawSplit
    dev: RawSplit
    tests: dict[str, RawSplit]
    fingerprint: str
    """Hash of the content of all files and of the annotator."""
    notes: list[str]
    """What the user should know: missing optional test sets, tokens without annotation ..."""


@dataclass
class _Files:
    """Where the files of one split are; of annotation, only those that are to be used."""

    name: str
    key: str
    """In the config."""
    source: Path
    target: Path
    conllu: Path | None = None
    raw: Path | None = None


def load(config: DataConfig, annotator: AnnotatorConfig, cache: Path, annotate: bool) -> RawCorpus:
    """The corpus of `config`; its source sentences have words where `annotate`.

    Downloads and annotation go into the folder `cache`. All files are read and checked before
    anything is annotated. An annotator that is set takes the place of annotation in files (noted).
    """
    tool = make_annotator(annotator) if annotate else None
    found, notes = _locate(config, cache, annotate, tool)
    splits, raw = [], []
    for files in found:
        split, lines = _read(files, config.limit if files.name == "train" else None)
        splits.append(split)
        raw.append(lines)
    for split, files, lines in zip(splits, found, raw, strict=True):
        if tool:
            annotated = annotate_cached(tool, lines, cache, annotator.processes)
            if files.raw:
                notes.append(_project(annotated, split, files.raw.name))
            else:
                split.source = annotated
        elif not annotate:
            split.source = [Sentence(sentence.text) for sentence in split.source]
    train, dev, *tests = splits
    named = {test.name: test for test in tests}
    return RawCorpus(train, dev, named, _fingerprint(config, found, annotate, tool), notes)


def fingerprint(config: DataConfig, annotator: AnnotatorConfig, cache: Path, annotate: bool) -> str:
    """`load(...).fingerprint`, without annotating; files that are missing are downloaded."""
    tool = make_annotator(annotator) if annotate else None
    return _fingerprint(config, _locate(config, cache, annotate, tool)[0], annotate, tool)


def _fingerprint(
    config: DataConfig, found: list[_Files], annotate: bool, tool: Annotator | None
) -> str:
    sums = {
        f.name: [p and sha256(p, content=True) for p in (f.source, f.target, f.conllu, f.raw)]
        for f in found
    }
    known = [sums, config.limit, annotate, tool and tool.fingerprint()]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def _locate(
    config: DataConfig, cache: Path, annotate: bool, tool: Annotator | None
) -> tuple[list[_Files], list[str]]:
    """The files of every split in order (train, dev, tests), downloaded where need be; notes."""
    if config.folder is not None and not Path(config.folder).expanduser().is_dir():
        raise UserError(f"data.folder={config.folder}: no such folder")
    if clash := {"train", "dev"} & config.tests.keys():
        raise UserError(f"data.tests.{min(clash)}: the name is taken; give the test set another")
    found: list[_Files] = []
    notes: list[str] = []
    splits: dict[str, SplitConfig] = {"train": config.train, "dev": config.dev, **config.tests}
    for name, split in splits.items():
        key = f"data.tests.{name}" if name in config.tests else f"data.{name}"
        given = split.conllu or (split.source if is_conllu(split.source) else None)
        wanted = {"source": split.source, "target": split.target}
        if tool:
            wanted |= {"raw": split.raw} if split.raw else {}
            if given:
                notes.append(
                    f"{name}: annotated by {tool.name}; the annotation in {given} is unused"
                )
        elif annotate:
            wanted |= {"conllu": split.conllu} if split.conllu else {}
            if not given:
                raise UserError(
                    f"{key}.source={split.source}: features need annotation; set annotator=udpipe "
                    f"or annotator=hanta, or {key}.conllu=FILE.conllu"
                )
        try:
            paths = {r: _find(config, cache, f"{key}.{r}", file) for r, file in wanted.items()}
            found.append(_Files(name, key, **paths))
        except UserError as error:
            if not split.optional or name not in config.tests:
                raise
            notes.append(f"test set {name} is left out: {error}")
    if config.tests and len(found) == 2:
        raise UserError(f"data={config.name}: no test set was found ({'; '.join(notes)})")
    return found, notes


def _find(config: DataConfig, cache: Path, key: str, name: str) -> Path:
    """The file `name` of the setting `key`, downloaded if its sum is pinned.

    In `data.folder` it may also lie without its own folders, and with or without `.gz`.
    """
    downloads = cache / config.name
    pinned = config.download.sha256.get(name)
    if config.folder is not None:
        folder = Path(config.folder).expanduser()
    else:
        folder = downloads if config.download.url else Path(".")
    if folder != downloads or not pinned:
        names = [name, name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"]
        for candidate in (*names, *(Path(n).name for n in names)):
            if (folder / candidate).exists():
                return folder / candidate
    if pinned is None or config.download.url is None:
        raise UserError(
            f"{key}={name}: no such file in {folder}; correct the name or set data.folder"
        )
    download.fetch(f"{config.download.url.rstrip('/')}/{name}", downloads / name, pinned)
    return downloads / name


def _read(files: _Files, limit: int | None) -> tuple[RawSplit, list[str]]:
    """A split, read and checked, with words where CoNLL-U gives them; the lines to annotate."""
    if is_conllu(files.source):
        source = list(read_conllu(files.source))
    else:
        source = [Sentence(line) for line in read_lines(files.source)]
    target = read_lines(files.target)
    texts = [sentence.text for sentence in source]
    raw = read_lines(files.raw) if files.raw else texts
    annotation = list(read_conllu(files.conllu)) if files.conllu else source
    sides: dict[Path | None, Sequence[object]]
    sides = {files.source: texts, files.target: target, files.raw: raw, files.conllu: annotation}
    for path, lines in sides.items():
        if not lines:
            raise UserError(f"{path}: the file is empty; {files.key} needs sentences")
        if len(lines) != len(source):
            raise UserError(
                f"{files.key}: {files.source} has {len(source)} sentences, {path} has "
                f"{len(lines)}; their lines must correspond"
            )
    for number, pair in enumerate(zip(texts, target, raw, strict=True), 1):
        for path, line in zip((files.source, files.target, files.raw), pair, strict=True):
            if not line.strip():
                raise UserError(
                    f"{path}:{number}: empty side of the pair {pair[0]!r} and {pair[1]!r}; "
                    "remove the line from every file"
                )
    if files.conllu:
        source = [
            Sentence(text, align(text, given.words, f"{files.conllu}: sentence {number}"))
            for number, (text, given) in enumerate(zip(texts, annotation, strict=True), 1)
        ]
    split = RawSplit(files.name, source[:limit], target[:limit], str(files.source))
    return split, raw[:limit]


def _project(annotated: list[Sentence], split: RawSplit, raw_name: str) -> str:
    """Give the split's tokens the annotation of its raw text; a note."""
    missed = 0
    for i, (sentence, tokens) in enumerate(zip(annotated, split.source, strict=True)):
        split.source[i], count = project(sentence, tokens.text, f"{split.source_path}:{i + 1}")
        missed += count
    total = sum(len(sentence.words) for sentence in split.source)
    return (
        f"{split.name}: annotation of {raw_name} projected to {total} tokens; {missed} that "
        "match no character of it have the values of the nearest that does"
    )
