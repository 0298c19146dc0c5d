"""A parallel corpus as the config describes it: found or downloaded, checked, annotated."""

import hashlib
import http.client
import json
import logging
import os
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from nmt_feat.corpus.annotators import Annotator, annotate_cached, make_annotator
from nmt_feat.corpus.conllu import Sentence, align, is_conllu, project, read_conllu
from nmt_feat.corpus.text import read_lines, sha256
from nmt_feat.errors import UserError
from nmt_feat.schema import AnnotatorConfig, DataConfig, SplitConfig

log = logging.getLogger(__name__)

_TIMEOUT = 30.0  # seconds without an answer


@dataclass
class RawSplit:
    """Sentence pairs of one split, line by line."""

    name: str
    key: str  # in the config
    files: dict[str, Path]  # those to use: source, target, and maybe conllu or raw
    source_path: str  # for messages
    source: list[Sentence] = field(default_factory=list)
    target: list[str] = field(default_factory=list)


@dataclass
class RawCorpus:
    """The splits before subwords and vocabularies."""

    train: RawSplit
    dev: RawSplit
    tests: dict[str, RawSplit]
    fingerprint: str  # hash of the content of all files and of the annotator
    notes: list[str]  # what the user should know: missing test sets, tokens without annotation ...


def load(config: DataConfig, annotator: AnnotatorConfig, cache: Path, annotate: bool) -> RawCorpus:
    """The corpus of `config`; its source sentences have words where `annotate`.

    Downloads and annotation go into the folder `cache`. All files are read and checked before
    anything is annotated. An annotator that is set takes the place of annotation in files (noted).
    """
    tool = make_annotator(annotator) if annotate else None
    corpus = _locate(config, tool, cache, annotate)
    splits = [corpus.train, corpus.dev, *corpus.tests.values()]
    lines = [_read(split, config.limit if split is corpus.train else None) for split in splits]
    for split, raw in zip(splits, lines, strict=True):
        if tool:
            annotated = annotate_cached(tool, raw, cache, annotator.processes)
            if "raw" in split.files:
                corpus.notes.append(_project(annotated, split))
            else:
                split.source = annotated
        elif not annotate:
            split.source = [Sentence(sentence.text) for sentence in split.source]
    return corpus


def fingerprint(config: DataConfig, annotator: AnnotatorConfig, cache: Path, annotate: bool) -> str:
    """`load(...).fingerprint`, without annotating; files that are missing are downloaded."""
    tool = make_annotator(annotator) if annotate else None
    return _locate(config, tool, cache, annotate).fingerprint


def _locate(config: DataConfig, tool: Annotator | None, cache: Path, annotate: bool) -> RawCorpus:
    """The corpus with the files of every split, downloaded where need be, but not read."""
    if config.folder is not None and not Path(config.folder).expanduser().is_dir():
        raise UserError(f"data.folder={config.folder}: no such folder")
    if clash := {"train", "dev"} & config.tests.keys():
        raise UserError(f"data.tests.{min(clash)}: the name is taken; give the test set another")
    splits: dict[str, RawSplit] = {}
    notes: list[str] = []
    given: dict[str, SplitConfig] = {"train": config.train, "dev": config.dev, **config.tests}
    for name, split in given.items():
        key = f"data.tests.{name}" if name in config.tests else f"data.{name}"
        annotation = split.conllu or (split.source if is_conllu(split.source) else None)
        if annotate and not tool and not annotation:
            raise UserError(
                f"{key}.source={split.source}: features need annotation; set annotator=udpipe "
                f"or annotator=hanta, or {key}.conllu=FILE.conllu"
            )
        if tool and annotation:
            notes.append(
                f"{name}: annotated by {tool.name}; the annotation in {annotation} is unused"
            )
        roles = ["source", "target", *(["raw"] if tool else ["conllu"] if annotate else [])]
        try:
            files = {
                role: _find(config, cache, f"{key}.{role}", file)
                for role in roles
                if (file := getattr(split, role))
            }
            splits[name] = RawSplit(name, key, files, str(files["source"]))
        except UserError as error:
            if not split.optional or name not in config.tests:
                raise
            notes.append(f"test set {name} is left out: {error}")
    if config.tests and len(splits) == 2:
        raise UserError(f"data={config.name}: no test set was found ({'; '.join(notes)})")
    sums = {}
    for name, found in splits.items():
        paths = map(found.files.get, ("source", "target", "conllu", "raw"))
        sums[name] = [path and sha256(path, content=True) for path in paths]
    known = json.dumps([sums, config.limit, annotate, tool and tool.fingerprint()])
    train, dev, *tests = splits.values()
    by_name = {test.name: test for test in tests}
    return RawCorpus(train, dev, by_name, hashlib.sha256(known.encode()).hexdigest(), notes)


def _find(config: DataConfig, cache: Path, key: str, name: str) -> Path:
    """The file `name` of the setting `key`, downloaded if its sum is pinned.

    In `data.folder` it may also lie without its own folders, and with or without `.gz`.
    """
    url, pinned = config.download.url, config.download.sha256.get(name)
    downloads = cache / config.name
    folder = downloads if url else Path(".")
    if config.folder is not None:
        folder = Path(config.folder).expanduser()
    if folder != downloads or not pinned:
        other = name.removesuffix(".gz") if name.endswith(".gz") else f"{name}.gz"
        for candidate in (name, other, Path(name).name, Path(other).name):
            if (folder / candidate).exists():
                return folder / candidate
    if pinned is None or url is None:
        raise UserError(
            f"{key}={name}: no such file in {folder}; correct the name or set data.folder"
        )
    fetch(f"{url.rstrip('/')}/{name}", downloads / name, pinned)
    return downloads / name


def _read(split: RawSplit, limit: int | None) -> list[str]:
    """Read and check a split, with words where CoNLL-U gives them; the lines to annotate."""
    path, files = split.files["source"], split.files
    source = list(read_conllu(path) if is_conllu(path) else map(Sentence, read_lines(path)))
    sides = {
        "source": [sentence.text for sentence in source],
        "target": read_lines(files["target"]),
    }
    if "raw" in files:
        sides["raw"] = read_lines(files["raw"])
    annotation = list(read_conllu(files["conllu"])) if "conllu" in files else source
    sides["conllu"] = [sentence.text for sentence in annotation]
    for role, lines in sides.items():
        if not lines:
            raise UserError(f"{files[role]}: the file is empty; {split.key} needs sentences")
        if len(lines) != len(source):
            raise UserError(
                f"{split.key}: {path} has {len(source)} sentences, {files[role]} has "
                f"{len(lines)}; their lines must correspond"
            )
    for number, pair in enumerate(zip(*sides.values(), strict=True), 1):
        for role, line in zip(sides, pair, strict=True):  # the source before its annotation
            if not line.strip():
                raise UserError(
                    f"{files[role]}:{number}: empty side of the pair {pair[0]!r} and {pair[1]!r}; "
                    "remove the line from every file"
                )
    if "conllu" in files:
        source = [
            Sentence(text, align(text, given.words, f"{files['conllu']}: sentence {number}"))
            for number, (text, given) in enumerate(zip(sides["source"], annotation, strict=True), 1)
        ]
    split.source, split.target = source[:limit], sides["target"][:limit]
    return sides.get("raw", sides["source"])[:limit]


def _project(annotated: list[Sentence], split: RawSplit) -> str:
    """Give a split's tokens the annotation of its raw text; a note."""
    total = missed = 0
    for i, raw in enumerate(annotated):
        where = f"{split.source_path}:{i + 1}"
        split.source[i], count = project(raw, split.source[i].text, where)
        total, missed = total + len(split.source[i].words), missed + count
    return (
        f"{split.name}: annotation of {split.files['raw'].name} projected to {total} tokens; "
        f"{missed} that match no character of it have the values of the nearest that does"
    )


def fetch(url: str, path: Path, pinned: str) -> None:
    """Leave at `path` the content of `url`, whose SHA-256 sum is `pinned`.

    What is there already is verified, and fetched again if it differs. A broken transfer leaves
    `path` + `.part`, from where the next one goes on. Of several processes one downloads, the
    others wait.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    with FileLock(f"{path}.lock"):
        if path.exists():
            if sha256(path) == pinned:
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
        if (found := sha256(part)) != pinned:
            part.unlink()
            raise UserError(
                f"{url}: SHA-256 sum {found} differs from the pinned {pinned}; "
                "the file was removed: try again, or correct data.download"
            )
        os.replace(part, path)


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
    with answer, part.open("ab" if getattr(answer, "status", None) == 206 else "wb") as file:
        begin = file.tell()
        shutil.copyfileobj(answer, file)
        file.flush()
        os.fsync(file.fileno())
        length = int(answer.headers.get("Content-Length") or -1)
        if 0 <= length != file.tell() - begin:
            raise ConnectionError(f"the connection broke after {file.tell()} bytes")
