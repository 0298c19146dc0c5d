"""A parallel corpus as the config describes it: found or downloaded, checked, annotated."""

import hashlib
import http.client
import json
import logging
import os
import shutil
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from nmt_feat.annotators.base import annotate_cached, fingerprint_of, make_annotator
from nmt_feat.base.files import hold_lock, refuse_links, sync_to_disk
from nmt_feat.base.pool import Pool
from nmt_feat.base.resources import find_resource
from nmt_feat.config.schema import AnnotatorConfig, DataConfig, DownloadConfig, SplitConfig
from nmt_feat.data import sentence_tables as tables
from nmt_feat.data.sentence_tables import Format, SentenceTable
from nmt_feat.errors import UserError, suggest
from nmt_feat.text import formats
from nmt_feat.text.conllu import Findings, Sentence, align_words, project_annotation
from nmt_feat.text.files import hash_content, hash_file_cached, list_shards, read_lines
from nmt_feat.text.normalization import rules_of_file
from nmt_feat.text.sentences import ANNOTATION, Sentences

log = logging.getLogger(__name__)

FACTOR = "factors."
"""Begins the role of a file of one factor's values."""
_TIMEOUT = 30.0  # seconds without an answer


@dataclass
class RawSplit:
    """Sentence pairs of one split, row by row."""

    name: str
    key: str  # in the config
    files: dict[str, Path]  # to use: source, target, and maybe conllu, raw, `factors.upos` ...
    form: Format  # of the source
    source_path: str  # for messages
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
    normal: bool = True  # whether they are followed, as in all but old runs

    @property
    def splits(self) -> list[RawSplit]:
        """Train, dev and the test sets."""
        return [self.train, self.dev, *self.tests.values()]


def annotated(config: DataConfig, annotator: AnnotatorConfig) -> bool:
    """Whether train has an annotation, of its own or by the annotator."""
    split = config.train
    given = split.conllu or split.factors or _kind(config, split) != "text"
    return bool(annotator._target_ or given)


def locate(
    config: DataConfig,
    annotator: AnnotatorConfig,
    cache: Path,
    annotate: bool,
    required: bool = True,
) -> RawCorpus:
    """The corpus with the files of every split, but not read; `annotate`: words are needed.

    They are needed of train only where not `required`. What is missing is downloaded into the
    folder `cache`.
    """
    tool = make_annotator(annotator) if annotate else None
    if config.folder is not None and not Path(config.folder).expanduser().is_dir():
        raise UserError(f"data.folder={config.folder}: no such folder")
    if clash := {"train", "dev"} & config.tests.keys():
        raise UserError(f"data.tests.{min(clash)}: the name is taken; give the test set another")
    check_formats(config)
    splits: dict[str, RawSplit] = {}
    notes: list[str] = []
    given: dict[str, SplitConfig] = {"train": config.train, "dev": config.dev, **config.tests}
    for name, split in given.items():
        key = f"data.tests.{name}" if name in config.tests else f"data.{name}"
        form = Format(_kind(config, split), tuple(config.factors))
        own = split.source if form.kind != "text" else None
        annotation = split.conllu or ", ".join(split.factors.values()) or own
        if annotate and not tool and not annotation and (required or name == "train"):
            raise UserError(
                f"{key}.source={split.source}: features need annotation; set annotator=udpipe "
                f"or annotator=hanta, or {key}.conllu=FILE.conllu"
            )
        if tool and annotation:
            notes.append(
                f"{name}: annotated by {tool.name}; the annotation in {annotation} is unused"
            )
        wanted = {"source": split.source, "target": split.target}
        if tool:
            wanted |= {"raw": split.raw or ""}
        elif annotate:
            factors = {FACTOR + column: file for column, file in split.factors.items()}
            wanted |= {"conllu": split.conllu or ""} | factors
        try:
            files = {
                role: _find(config, cache, f"{key}.{role}", file)
                for role, file in wanted.items()
                if file
            }
            splits[name] = RawSplit(name, key, files, form, str(files["source"]))
        except UserError as error:
            if not split.optional or name not in config.tests:
                raise
            notes.append(f"test set {name} is left out: {error}")
    if config.tests and len(splits) == 2:
        raise UserError(f"data={config.name}: no test set was found ({'; '.join(notes)})")
    sums: dict[str, list[str | list[str] | None]] = {}
    rules: dict[str, set[str]] = {}
    for name, found in splits.items():
        rules[name] = _rules(found, cache)
        others = sorted(role for role in found.files if role.startswith(FACTOR))
        sums[name] = []
        for role in ("source", "target", "conllu", "raw", *others):
            parts = list_shards(found.files[role]) if role in found.files else []
            known = [hash_file_cached(path, cache, content=True) for path in parts]
            sums[name].append(known if len(known) > 1 else next(iter(known), None))
            if len(known) > 1:
                first, last = parts[0].name, parts[-1].name
                notes.append(f"{name}: {role} is {len(known)} files, {first} to {last}")
        if others:
            sums[name] += [*others, "spaces"]  # of the text, which were single ones once
    by_annotator = [config.limit, annotate, tool and fingerprint_of(tool)]

    def hash_content(*names: str) -> str:
        # The same bytes are other sentences as JSON; plain text and CoNLL-U differ in content.
        forms = [splits[name].form for name in names]
        forms = [form for form in forms if form.factors or form.kind == "jsonl"]
        content = json.dumps([{name: sums[name] for name in names}, *by_annotator, *forms])
        return hashlib.sha256(content.encode()).hexdigest()

    train, dev, *tests = splits.values()
    by_name = {test.name: test for test in tests}
    return RawCorpus(
        train,
        dev,
        by_name,
        fingerprint=hash_content(*splits),
        training_sum=hash_content("train", "dev"),
        test_sums={name: hash_content(name) for name in by_name},
        notes=notes,
        rules=rules,
    )


def _rules(split: RawSplit, cache: Path) -> set[str]:
    """The rules of normal form that change a split's text."""
    rules: set[str] = set()
    for role, path in split.files.items():
        kind = _format(split, role).kind
        if kind in formats.SEPARATORS or role.startswith(FACTOR):
            kind = "tokens"
        for part in list_shards(path):
            rules |= rules_of_file(part, kind, cache)
    return rules


def _format(split: RawSplit, role: str) -> Format:
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


def test_set(
    config: DataConfig, cache: Path
) -> tuple[list[Sentence], list[str], list[str] | None, str]:
    """The first test set that is here: sentences with the annotation of files, targets, raw text.

    Nothing is downloaded. The last is the source's name, for messages.
    """
    here = without_download(config, cache)
    problems: list[UserError] = []
    for name, split in config.tests.items():
        try:
            return _test_set(here, cache, f"data.tests.{name}", split)
        except UserError as error:
            problems.append(error)
    raise problems[0] if problems else UserError("it has none")


def _test_set(
    config: DataConfig, cache: Path, key: str, split: SplitConfig
) -> tuple[list[Sentence], list[str], list[str] | None, str]:
    def path(role: str, name: str) -> Path:
        return _find(config, cache, f"{key}.{role}", name)

    def lines(file: Path) -> list[str]:
        return [line for shard in list_shards(file) for line in read_lines(shard)]

    source = path("source", split.source)
    targets = lines(path("target", split.target))
    raw = lines(path("raw", split.raw)) if split.raw else None
    texts, kind = lines(source), _kind(config, split)
    if split.factors:
        files = {column: path(FACTOR + column, file) for column, file in split.factors.items()}
        sides = {column: (str(file), lines(file)) for column, file in files.items()}
        sentences = list(formats.parse_parallel(texts, str(source), sides))
    else:
        sentences = list(formats.parse_lines(texts, str(source), kind, config.factors))
    if split.conllu:
        file = path("conllu", split.conllu)
        form = formats.kind_of(file)
        parsed = formats.parse_lines(lines(file), str(file), "conllu" if form == "text" else form)
        parts = [Sentences.of(parsed), Sentences.of(sentences)]
        if len(parts[0]) != len(parts[1]):
            raise UserError(f"{key}: {source} and {file} differ in their number of sentences")
        sentences = list(_aligned(ANNOTATION, file, parts, 0)[0])
    if len(sentences) != len(targets):
        raise UserError(
            f"{key}: {source} has {len(sentences)} sentences, its target has {len(targets)}"
        )
    return sentences, targets, raw, str(source)


def files_of(config: DataConfig) -> list[Path]:
    """All files that the settings name, whether they are there or not."""
    folder = Path(config.folder or ".").expanduser()
    splits = (config.train, config.dev, *config.tests.values())
    names = [n for s in splits for n in (s.source, s.target, s.conllu, s.raw, *s.factors.values())]
    return [path for name in names if name for path in list_shards(folder / name)]


def check_formats(config: DataConfig) -> None:
    """Refuse formats and factors that contradict each other."""
    if config.format not in (known := ("auto", *formats.FORMATS)):
        raise UserError(f"data.format={config.format}: unknown; {suggest(config.format, known)}")
    formats.check_factors(config.factors, "data.factors")
    if config.format in formats.SEPARATORS and not config.factors:
        raise UserError(
            f"data.format={config.format}: name its factors, such as data.factors=[upos,lemma]"
        )
    kinds = set()
    for split in (config.train, config.dev, *config.tests.values()):
        formats.check_factors(list(split.factors), "data: factors of a split")
        kinds.add(kind := _kind(config, split))
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


def _kind(config: DataConfig, split: SplitConfig) -> str:
    """The format of a split's source side."""
    return formats.kind_of(split.source) if config.format == "auto" else config.format


def load(
    corpus: RawCorpus,
    config: DataConfig,
    annotator: AnnotatorConfig,
    cache: Path,
    columns: tuple[str, ...] | None,
    folder: Path,
    pool: Pool,
) -> None:
    """Read the located corpus into `folder`; words have these columns, or are not read (None).

    Annotation is kept in the folder `cache`. All files are read and checked before anything is
    annotated. An annotator that is set takes the place of annotation in files (noted).
    """
    tool = None if columns is None else make_annotator(annotator)
    for split in corpus.splits:
        limit = config.limit if split is corpus.train else None
        _read(corpus, split, limit, None if tool else columns, folder, pool)
        if config.format == "auto" and split.form.kind == "text":
            _refuse_factored(split)
    if tool is None or columns is None:
        return
    for split in corpus.splits:
        texts = split.source
        if "raw" in split.files:
            texts = SentenceTable(folder / f"{split.name}.raw.arrow").limited(len(split.source))
        path = annotate_cached(tool, texts.texts, cache, annotator.processes)
        out = folder / f"{split.name}.annotated.arrow"
        # The text is in normal form, and values stay as the annotator says them.
        annotated = tables.read(path, Format("conllu"), columns, out, pool, normal=False).table
        if "raw" in split.files:
            train = split is corpus.train
            corpus.notes.append(_project(annotated, split, columns, folder, pool, train))
        else:
            split.source = annotated


def _find(config: DataConfig, cache: Path, key: str, name: str) -> Path:
    """The file `name` of the setting `key`, downloaded if its sum is pinned.

    In `data.folder` it may lie with or without `.gz`, one of a public corpus's folders also without
    that folder.
    """
    url, pinned = config.download.url, config.download.sha256.get(name)
    downloads = cache / config.name
    folder = downloads if url else Path(".")
    if config.folder is not None:
        folder = Path(config.folder).expanduser()
    if folder != downloads or not pinned:
        other = name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"
        names = [name, other]
        if Path(name).parent in {Path(each).parent for each in config.download.sha256}:
            names += [Path(each).name for each in names]
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
    fetch(f"{url.rstrip('/')}/{name}", downloads / name, pinned)
    return downloads / name


def _read(
    corpus: RawCorpus,
    split: RawSplit,
    limit: int | None,
    columns: tuple[str, ...] | None,
    folder: Path,
    pool: Pool,
) -> None:
    """Read and check a split, with words where files give them."""
    files, contents = split.files, dict[str, tables.Content]()
    for role, path in files.items():
        of_role = columns if role in ("source", "conllu") else None
        out, form = folder / f"{split.name}.{role}.arrow", _format(split, role)
        contents[role] = tables.read(path, form, of_role, out, pool, corpus.normal)
        if not len(contents[role].table):
            raise UserError(f"{path}: the file is empty; {split.key} needs sentences")
    read = {role: content.table for role, content in contents.items()}
    if "conllu" in read:
        read["conllu"] = _with_blank_lines(read["conllu"], contents["source"], split, folder)
    count = len(read["source"])
    for role, table in read.items():
        if len(table) != count:
            raise UserError(
                f"{split.key}: {files['source']} has {count} sentences, {files[role]} has "
                f"{len(table)}; their lines must correspond"
            )
    _check_blank(corpus, split, contents)
    if "conllu" in files:
        work = partial(_aligned, columns or (), files["conllu"])
        parts, out = [read["conllu"], read["source"]], folder / f"{split.name}.arrow"
        read["source"], _ = tables.merge(work, parts, out, pool)
    if factors := {role: str(path) for role, path in files.items() if role.startswith(FACTOR)}:
        work = partial(_factored, columns or (), factors, files["source"])
        parts, out = (
            [*(read[role] for role in factors), read["source"]],
            folder / f"{split.name}.arrow",
        )
        read["source"], _ = tables.merge(work, parts, out, pool)
    split.source, split.target = read["source"].limited(limit), read["target"].limited(limit)
    for role, content in contents.items():
        _check_heads(corpus, split, files[role], content.findings, columns or ())


def _check_heads(
    corpus: RawCorpus, split: RawSplit, path: Path, findings: Findings, columns: tuple[str, ...]
) -> None:
    """Note heads that make no tree; refuse them where a feature reads heads."""
    if not (message := findings.describe_trees()):
        return
    if "head_upos" in columns:
        raise UserError(
            f"{path}: {message}, but features read heads (column=head_upos); correct the "
            "annotation, or leave these features out"
        )
    corpus.notes.append(f"{split.name}: the annotation has {message}")


def _with_blank_lines(
    annotation: SentenceTable, source: tables.Content, split: RawSplit, folder: Path
) -> SentenceTable:
    """The annotation with rows for blank lines of the text, which most annotators leave out."""
    if not source.blank or len(annotation) != len(source.table) - source.blank:
        return annotation
    texts = source.table.texts
    blank = np.fromiter((not text.strip() for text in texts), np.bool_, len(texts))
    return tables.with_blank_rows(annotation, blank, folder / f"{split.name}.rows.arrow")


def _check_blank(corpus: RawCorpus, split: RawSplit, contents: dict[str, tables.Content]) -> None:
    """Note blank lines of a split that is translated; those of train are filtered and counted."""
    for role in ("source", "target"):
        blank, count = contents[role].blank, len(contents[role].table)
        if blank == count:
            raise UserError(f"{split.files[role]}: all {count} lines are blank; give sentences")
        if blank and split is not corpus.train:
            what = "source lines are blank, their translations are empty"
            if role == "target":
                what = "references are blank"
            corpus.notes.append(f"{split.name}: {blank:,} {what}")


def _refuse_factored(split: RawSplit) -> None:
    if kind := formats.guess_format(list(islice(split.source.texts, 10))):
        raise UserError(
            f"{split.source_path}: every token has a {formats.SEPARATORS[kind]!r}, as factored "
            f"text has; set data.format={kind} and data.factors, or data.format=text if it is plain"
        )


def _aligned(
    columns: tuple[str, ...], path: Path, parts: list[Sentences], row: int
) -> tuple[Sentences, int]:
    """The texts with the words of their annotation in `path`."""
    annotated, texts = parts[0], parts[1].texts
    if annotated.texts == texts:
        return annotated, 0
    found = []
    for number, (text, given) in enumerate(zip(texts, annotated, strict=True), row + 1):
        if not text.strip():  # whatever is said of a blank line: it has no words
            found.append(Sentence(text))
            continue
        bare = not given.words and "".join(text.split()) == "".join(given.text.split())
        words = () if bare else align_words(text, given.words, f"{path}: sentence {number}")
        found.append(Sentence(text, words))
    return Sentences.of(found, columns), 0


def _factored(
    columns: tuple[str, ...],
    factors: dict[str, str],
    path: Path,
    parts: list[Sentences],
    row: int,
) -> tuple[Sentences, int]:
    """The tokens of `path` with the values of these files, token by token."""
    *values, tokens = (part.texts for part in parts)
    sides = {
        role.removeprefix(FACTOR): (file, lines)
        for (role, file), lines in zip(factors.items(), values, strict=True)
    }
    found = formats.parse_parallel(tokens, str(path), sides, row + 1)
    return Sentences.of(found, columns), 0


def _project(
    annotated: SentenceTable,
    split: RawSplit,
    columns: tuple[str, ...],
    folder: Path,
    pool: Pool,
    train: bool,
) -> str:
    """Give a split's tokens the annotation of its raw text; a note."""
    work = partial(_projected, columns, split.source_path, train)
    out = folder / f"{split.name}.arrow"
    split.source, missed = tables.merge(work, [annotated, split.source], out, pool)
    return (
        f"{split.name}: annotation of {split.files['raw'].name} projected to "
        f"{split.source.words()} tokens; "
        f"{missed} that match no character of it have the values of the nearest that does"
    )


def _projected(
    columns: tuple[str, ...], path: str, train: bool, parts: list[Sentences], row: int
) -> tuple[Sentences, int]:
    """The tokens with the annotation of their raw texts, and how many matched nothing.

    Of `train`, tokens whose raw line is blank are none: the pair has a blank side.
    """
    annotated, texts = parts[0], parts[1].texts
    found = []
    for number, (raw, text) in enumerate(zip(annotated, texts, strict=True), row + 1):
        if train and not raw.text.strip():
            text = ""
        if text.strip():
            found.append(project_annotation(raw, text, f"{path}:{number}"))
        else:
            found.append((Sentence(text), 0))
    return Sentences.of([s for s, _ in found], columns), sum(missed for _, missed in found)


def fetch(url: str, path: Path, pinned: str) -> None:
    """Leave at `path` the content of `url`, whose SHA-256 sum is `pinned`.

    What is there already is verified, and fetched again if it differs. A broken transfer leaves
    `path` + `.part`, from where the next one goes on. Of several processes one downloads, the
    others wait.
    """
    _refuse_insecure(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    refuse_links(path.parent, part)
    with hold_lock(path, "downloads it"):
        if path.exists():
            if hash_content(path) == pinned:
                return
            log.warning("%s is corrupt (its SHA-256 sum differs): downloading again", path)
        log.info("downloading %s", url)
        try:
            _transfer(url, part)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"cannot download {url} ({reason}); try again, it goes on where it broke, or get "
                f"it by hand and put it into {path.parent} or into a folder named by data.folder"
            ) from None
        if (found := hash_content(part)) != pinned:
            part.unlink()
            raise UserError(
                f"{url}: SHA-256 sum {found} differs from the pinned {pinned}; "
                "the file was removed: try again, or correct data.download"
            )
        os.replace(part, path)
        sync_to_disk(path.parent)


def _refuse_insecure(url: str) -> None:
    """Only https, a file, or a server on this machine."""
    parts = urllib.parse.urlsplit(url)
    here = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme not in ("https", "file") and not here:
        raise UserError(f"data.download.url: {url} is not https; give a URL that begins with it")


def _transfer(url: str, part: Path) -> None:
    """Append to `part` what it lacks, or write it anew where the server cannot go on."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing is left to get
            return
        raise
    _refuse_insecure(answer.url)  # where it was sent on to
    with answer, part.open("ab" if getattr(answer, "status", None) == 206 else "wb") as file:
        begin = file.tell()
        shutil.copyfileobj(answer, file)
        file.flush()
        os.fsync(file.fileno())
        length = int(answer.headers.get("Content-Length") or -1)
        if 0 <= length != file.tell() - begin:
            raise ConnectionError(f"the connection broke after {file.tell()} bytes")
