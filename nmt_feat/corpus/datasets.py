"""A parallel corpus as the config describes it: found or downloaded, checked, annotated."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from nmt_feat.corpus import annotators, download, text
from nmt_feat.corpus.annotators import Annotator, make_annotator
from nmt_feat.corpus.conllu import Sentence, align, project, read_conllu
from nmt_feat.errors import UserError
from nmt_feat.schema import AnnotatorConfig, DataConfig


@dataclass
class RawSplit:
    """Sentence pairs of one split, line by line."""

    name: str
    source: list[Sentence]
    target: list[str]
    source_path: str
    """For messages, as `target_path`."""
    target_path: str


@dataclass
class RawCorpus:
    """The splits before subwords and vocabularies."""

    train: RawSplit
    dev: RawSplit
    tests: dict[str, RawSplit]
    fingerprint: str
    """Hash of the content of all files and of the annotator."""
    notes: list[str] = field(default_factory=list)
    """What the user should know: missing optional test sets, tokens without annotation ..."""


@dataclass
class _Files:
    """Where the files of one split are; of annotation, only those that are to be used."""

    name: str
    key: str
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
    files, notes = _locate(config, cache, annotate, tool)
    splits = []
    for where in files:
        limit = config.limit if where.name == "train" else None
        splits.append(_read(where, limit, annotate and tool is None))
    for (split, raw), where in zip(splits, files, strict=True):
        if tool:
            notes += _annotate(split, raw, where, tool, annotator.processes, cache)
        elif not annotate:
            split.source = [Sentence(s.text) for s in split.source]
    return RawCorpus(
        train=splits[0][0],
        dev=splits[1][0],
        tests={split.name: split for split, _ in splits[2:]},
        fingerprint=_fingerprint(config, files, annotate, tool),
        notes=notes,
    )


def fingerprint(config: DataConfig, annotator: AnnotatorConfig, cache: Path, annotate: bool) -> str:
    """`load(...).fingerprint`, without annotating; files that are missing are downloaded."""
    tool = make_annotator(annotator) if annotate else None
    return _fingerprint(config, _locate(config, cache, annotate, tool)[0], annotate, tool)


def _fingerprint(
    config: DataConfig, files: list[_Files], annotate: bool, tool: Annotator | None
) -> str:
    sums = {
        f.name: [p and text.sha256(p, content=True) for p in (f.source, f.target, f.conllu, f.raw)]
        for f in files
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
    splits = {"train": ("data.train", config.train), "dev": ("data.dev", config.dev)}
    splits |= {name: (f"data.tests.{name}", split) for name, split in config.tests.items()}
    found: list[_Files] = []
    notes: list[str] = []
    for name, (key, split) in splits.items():
        wanted = {"source": split.source, "target": split.target}
        given = split.conllu or (split.source if _is_conllu(split.source) else None)
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
        paths = {role: _find(config, cache, file, notes) for role, file in wanted.items()}
        missing = [f"{key}.{role}={wanted[role]}" for role, path in paths.items() if path is None]
        if not missing:
            found.append(_Files(name, key, **{r: p for r, p in paths.items() if p}))
            continue
        places = " or ".join(str(folder) for folder in _folders(config, cache))
        message = f"{missing[0]}: no such file in {places}"
        if split.optional and name in config.tests:
            notes.append(f"test set {name} is left out: {message}")
        elif config.download.url is None:
            raise UserError(f"{message}; correct the name or set data.folder")
        else:
            raise UserError(
                f"{message}, and it is not downloaded as data.download.sha256 has no sum of it; "
                "put it there or set data.folder"
            )
    if config.tests and len(found) == 2:
        raise UserError(f"data={config.name}: no test set was found ({'; '.join(notes)})")
    return found, notes


def _folders(config: DataConfig, cache: Path) -> list[Path]:
    given = [Path(config.folder).expanduser()] if config.folder is not None else []
    public = [cache / config.name] if config.download.url is not None else []
    return given + public or [Path(".")]


def _find(config: DataConfig, cache: Path, name: str, notes: list[str]) -> Path | None:
    """The file `name`, also without its folders, also with or without `.gz`; downloaded if pinned.

    A file of `data.folder` that differs from its pinned sum is used, and noted.
    """
    pinned = config.download.sha256.get(name)
    download_to = cache / config.name / name
    zipped = name.endswith(".gz")
    for folder in _folders(config, cache):
        for base in dict.fromkeys((folder / name, folder / Path(name).name)):
            for path in (base, base.with_suffix("") if zipped else Path(f"{base}.gz")):
                if not path.exists() or (pinned and path == download_to):
                    continue
                # A sum is of the file as it is named, also where `X.gz` stands for `X`; where `X`
                # stands for `X.gz`, there is nothing to compare.
                if (
                    pinned
                    and (path.suffix == ".gz" or not zipped)
                    and text.sha256(path, content=not zipped) != pinned
                ):
                    notes.append(f"{path} differs from the pinned revision of {config.name}")
                return path
    if pinned is None or config.download.url is None:
        return None
    download.fetch(f"{config.download.url.rstrip('/')}/{name}", download_to, pinned)
    return download_to


def _is_conllu(name: str | Path) -> bool:
    return str(name).removesuffix(".gz").endswith(".conllu")


def _read(files: _Files, limit: int | None, annotated: bool) -> tuple[RawSplit, list[str]]:
    """A split, read and checked, with words where CoNLL-U gives them; the lines to annotate."""
    if _is_conllu(files.source):
        source = list(read_conllu(files.source))
    else:
        source = [Sentence(line) for line in text.read_lines(files.source)]
    target = text.read_lines(files.target)
    raw = text.read_lines(files.raw) if files.raw else [s.text for s in source]
    for path, side in ((files.source, source), (files.target, target)):
        if not side:
            raise UserError(f"{path}: the file is empty; {files.key} needs sentences")
    for other, count in ((files.target, len(target)), (files.raw, len(raw))):
        if len(source) != count:
            raise UserError(
                f"{files.key}: {files.source} has {len(source)} sentences, {other} has {count}; "
                "their lines must correspond"
            )
    for number, (sentence, line, unsplit) in enumerate(zip(source, target, raw, strict=True), 1):
        sides = ((files.source, sentence.text), (files.target, line), (files.raw, unsplit))
        if empty := [file for file, side in sides if not side.strip()]:
            raise UserError(
                f"{empty[0]}:{number}: empty side of the pair {sentence.text!r} and {line!r}; "
                "remove the line from every file"
            )
    if annotated and files.conllu:
        source = _aligned(source, files.source, files.conllu)
    if limit is not None and limit < 1:
        raise UserError(f"data.limit={limit}: must be at least 1")
    split = RawSplit(
        files.name, source[:limit], target[:limit], str(files.source), str(files.target)
    )
    return split, raw[:limit]


def _aligned(source: list[Sentence], path: Path, conllu: Path) -> list[Sentence]:
    """The annotation of the file `conllu` on the lines of the file `path`."""
    out: list[Sentence] = []
    annotation = list(read_conllu(conllu))
    hint = f"({len(source)} lines, {len(annotation)} annotated sentences); annotate this very file"
    for number, (line, given) in enumerate(zip_longest(source, annotation), 1):
        texts = [s.text if s else None for s in (line, given)]
        plain = ["".join(t.split()) if t else t for t in texts]
        if plain[0] != plain[1]:
            raise UserError(
                f"{path}:{number}: {texts[0]!r} is not sentence {number} of {conllu}: "
                f"{texts[1]!r} {hint}"
            )
        out.append(Sentence(line.text, align(line.text, given.words, f"{path}:{number}")))
    return out


def _annotate(
    split: RawSplit, raw: list[str], files: _Files, tool: Annotator, processes: int, cache: Path
) -> list[str]:
    """Give the split's source sentences the words that `tool` finds in the lines `raw`; notes."""
    with _progress(f"annotating {split.name}") as progress:
        sentences = annotators.annotate_cached(tool, raw, cache, processes, progress)
    if not files.raw:
        split.source = sentences
        return []
    missed = 0
    for index, (sentence, line) in enumerate(zip(sentences, split.source, strict=True)):
        where = f"{files.source}:{index + 1}"
        split.source[index], count = project(sentence, line.text, where)
        missed += count
    tokens = sum(len(sentence.words) for sentence in split.source)
    return [
        f"{split.name}: annotation of {files.raw.name} projected to {tokens} tokens; {missed} that "
        "match no character of it have the values of the nearest that does"
    ]


@contextmanager
def _progress(what: str) -> Iterator[annotators.Progress | None]:
    """A progress bar on standard error, if that is a terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
