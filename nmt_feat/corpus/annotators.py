"""Annotators: raw lines of text to sentences of annotated words, in parallel and once only."""

import functools
import hashlib
import importlib
import importlib.metadata
import logging
import multiprocessing
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, ClassVar

from filelock import FileLock

from nmt_feat.corpus.conllu import Row, Sentence, Span, assemble, parse_conllu, write_conllu
from nmt_feat.corpus.text import sha256
from nmt_feat.errors import UserError, near
from nmt_feat.instantiate import build
from nmt_feat.schema import AnnotatorConfig

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with the number of lines done and of all lines."""

_CHUNK = 100
_FORMAT = "nmt_feat annotation 1"


class Annotator(ABC):
    """Turns lines of raw text into annotated sentences, each line on its own."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def columns(self) -> frozenset[str]:
        """The columns that it gives values for: of lemma, upos, xpos, feats, deprel, head_upos."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What determines its output: package, version, sum of the model."""

    @abstractmethod
    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line, its words with spans in that line; no words in a blank one."""

    def files(self) -> dict[str, Path]:
        """Files that it needs, by the argument of its constructor that names them."""
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """Without what was loaded: each process loads its own."""
        return {k: v for k, v in self.__dict__.items() if k != "_tagger"}


class UDPipe(Annotator):
    """UDPipe 1 (Straka & Straková 2017): tokenises, tags, lemmatises and parses.

    Where its tokeniser finds several sentences in a line, their words stay one sentence, with as
    many roots. `model` is a model file; which columns it gives depends on it.
    """

    name = "udpipe"

    def __init__(self, model: str | None = None) -> None:
        _package("ufal.udpipe", self.name)
        if model is None:
            raise UserError(
                "annotator=udpipe needs a model: set annotator.model=FILE.udpipe "
                "(models for many languages: https://ufal.mff.cuni.cz/udpipe/1/models)"
            )
        self.model = Path(model).expanduser()
        if not self.model.is_file():
            raise UserError(
                f"annotator.model={model}: no such file; set annotator.model to a model"
            )

    @functools.cached_property
    def _tagger(self) -> Any:
        model = _package("ufal.udpipe", self.name).Model.load(str(self.model))
        if model is None:
            raise UserError(f"annotator.model={self.model}: not a UDPipe 1 model; get it again")
        return model

    @property
    def columns(self) -> frozenset[str]:
        """Those with a value in a probe."""
        words = self.annotate(["The old man saw 3 dogs. Der alte Mann sah 3 Hunde."])[0].words
        names = ("lemma", "upos", "xpos", "feats", "deprel", "head_upos")
        return frozenset(n for n in names if any(getattr(w, n) != "_" for w in words))

    def fingerprint(self) -> str:
        """Package, version and sum of the model."""
        version = importlib.metadata.version("ufal.udpipe")
        return f"udpipe ufal.udpipe={version} model={sha256(self.model)}"

    def files(self) -> dict[str, Path]:
        """The model."""
        return {"model": self.model}

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line."""
        return [self._line(text) for text in texts]

    def _line(self, text: str) -> Sentence:
        udpipe, model = _package("ufal.udpipe", self.name), self._tagger
        rows: list[Row] = []
        spans: list[Span] = []
        tokenizer = model.newTokenizer(model.TOKENIZER_RANGES)
        if tokenizer is None:
            raise UserError(f"annotator.model={self.model}: has no tokeniser; use a model with one")
        tokenizer.setText(text)
        parsed = udpipe.Sentence()
        error = udpipe.ProcessingError()
        while tokenizer.nextSentence(parsed, error):
            before = len(rows)
            model.tag(parsed, model.DEFAULT, error)
            model.parse(parsed, model.DEFAULT, error)
            last = 0
            ranges = {m.idFirst: m for m in parsed.multiwordTokens}
            for word in list(parsed.words)[1:]:
                token = ranges.get(word.id, word)
                if word.id > last:
                    last = ranges[word.id].idLast if word.id in ranges else word.id
                    place = token.getTokenRangeStart(), token.getTokenRangeEnd()
                    spans.append(Span(before + word.id, before + last, *place))
                head = word.head + before if word.head > 0 else word.head
                values = word.lemma, word.upostag, word.xpostag, word.feats
                lemma, upos, xpos, feats = (v or "_" for v in values)
                rows.append(Row(lemma, upos, xpos, feats, head, word.deprel or "_"))
            parsed = udpipe.Sentence()
        if error.occurred():
            raise UserError(f"annotator=udpipe: {error.message.strip()} in {text!r}")
        return assemble(text, spans, rows)


# HanTa's English tags are those of the British National Corpus (C5). They do not tell auxiliary
# be, do and have from the full verbs: these are AUX always.
_C5 = {
    "ADJ": "AJ0 AJC AJS ORD",
    "ADP": "PRP PRF AVP",
    "ADV": "AV0 AVQ",
    "AUX": "VBB VBD VBG VBI VBN VBZ VDB VDD VDG VDI VDN VDZ VHB VHD VHG VHI VHN VHZ VM0",
    "CCONJ": "CJC",
    "DET": "AT0 DT0",
    "INTJ": "ITJ",
    "NOUN": "NN NN0 NN1 NN2",
    "NUM": "CRD",
    "PART": "POS TO0 XX0",
    "PRON": "DPS DTQ EX0 PNI PNP PNQ PNX",
    "PROPN": "NP0",
    "PUNCT": "PUL PUN PUQ PUR",
    "SCONJ": "CJS CJT",
    "VERB": "VVB VVD VVG VVI VVN VVZ",
    "X": "UNC ZZ0 IN !!! UNKNOWN",
}
# Its German tags are like those of STTS; the map is Universal Dependencies' own (de-stts).
_STTS = {
    "ADJ": "ADJ(A) ADJ(D)",
    "ADP": "APPO APPR APPRART APZR PTKVZ",
    "ADV": "ADV PROAV PWAV",
    "AUX": "VA(FIN) VA(IMP) VA(INF) VA(PP) VM(FIN) VM(INF) VM(PP)",
    "CCONJ": "KOKOM KON",
    "DET": "ART PDAT PIAT PPOSAT PRELAT PWAT",
    "INTJ": "ITJ",
    "NOUN": "NN NNA NNI",
    "NUM": "CARD",
    "PART": "PTKA PTKANT PTKNEG PTKZU",
    "PRON": "PDS PIS PPER PPOSS PRELS PRF PWS",
    "PROPN": "NE",
    "PUNCT": "$( $, $.",
    "SCONJ": "KOUI KOUS",
    "VERB": "VV(FIN) VV(IMP) VV(INF) VV(IZU) VV(PP)",
    "X": "FM TRUNC XY UNKNOWN",
}
_NUMBER_WORD_SIGN = r"\d+(?:[.,:]\d+)*(?!\w)|\w+(?:-\w+)*|[^\w\s]"
_CLITIC = r"[^\W\d_]+(?=n['’]t\b)|n['’]t\b|['’](?:s|re|ve|ll|d|m)\b|"


class HanTa(Annotator):
    """The Hanover Tagger (Wartena 2019) with the models in its package.

    Gives lemma, xpos (C5 for English, STTS-like for German) and upos (mapped from it); no feats,
    no syntax. Its tokens are numbers, words (inner hyphens included; English clitics split off, as
    in `do n't`, `man 's`) and single other characters. `language` is `en` or `de`.
    """

    name = "hanta"
    columns = frozenset({"lemma", "upos", "xpos"})
    _languages: ClassVar = {
        "en": ("morphmodel_en.pgz", _C5, _CLITIC + _NUMBER_WORD_SIGN),
        "de": ("morphmodel_ger.pgz", _STTS, _NUMBER_WORD_SIGN),
    }

    def __init__(self, language: str) -> None:
        _package("HanTa", self.name)
        if language not in self._languages:
            raise UserError(
                f"annotator=hanta: no language {language!r}; {near(language, ['de', 'en'])}"
            )
        self.language = language
        _, groups, pattern = self._languages[language]
        self.upos = {tag: upos for upos, tags in groups.items() for tag in tags.split()}
        self._token = re.compile(pattern, re.IGNORECASE)

    @functools.cached_property
    def _tagger(self) -> Any:
        return _package("HanTa.HanoverTagger", self.name).HanoverTagger(
            self._languages[self.language][0]
        )

    def fingerprint(self) -> str:
        """Package, version (its models come with it) and language."""
        return f"hanta HanTa={importlib.metadata.version('HanTa')} language={self.language}"

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line."""
        out = []
        for text in texts:
            found = list(self._token.finditer(text))
            tagged = self._tagger.tag_sent([m[0].replace("’", "'") for m in found])
            rows = [
                Row(lemma or "_", self.upos[tag], tag, "_", -1, "_") for _, lemma, tag in tagged
            ]
            spans = [Span(i, i, m.start(), m.end()) for i, m in enumerate(found, 1)]
            out.append(assemble(text, spans, rows))
        return out


def _package(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(
            f"annotator={extra} needs the package {module.removesuffix('.HanoverTagger')}: "
            f"pip install 'nmt_feat[{extra}]'"
        ) from None


def make_annotator(config: AnnotatorConfig) -> Annotator | None:
    """The annotator that a config describes, if any."""
    if config._target_ is None:
        return None
    model = {} if config.model is None else {"model": config.model}
    annotator = build(config._target_, **model, **config.args)
    if not isinstance(annotator, Annotator):
        raise UserError(
            f"annotator._target_={config._target_}: is no nmt_feat.corpus.annotators.Annotator; "
            "derive the class from it"
        )
    return annotator


_worker: Annotator


def _start(annotator: Annotator) -> None:
    global _worker
    _worker = annotator


def _work(texts: list[str]) -> list[Sentence]:
    return _worker.annotate(texts)


def annotate_parallel(
    annotator: Annotator, texts: Sequence[str], processes: int = 0, progress: Progress | None = None
) -> list[Sentence]:
    """`annotator.annotate(texts)` by several processes (0: one per core), in order."""
    chunks = [list(texts[i : i + _CHUNK]) for i in range(0, len(texts), _CHUNK)]
    processes = min(processes or _cores(), max(1, len(chunks) // 2))
    out: list[Sentence] = []

    def gather(results: Iterator[list[Sentence]]) -> None:
        for result in results:
            out.extend(result)
            if progress:
                progress(len(out), len(texts))

    if processes == 1:
        gather(annotator.annotate(chunk) for chunk in chunks)
        return out
    # Not forked: the parent may have threads.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_start, initargs=(annotator,))
    try:
        gather(pool.map(_work, chunks))
    except BrokenProcessPool:
        raise UserError(
            f"annotator={annotator.name}: a process died, perhaps for want of memory; "
            f"set annotator.processes to less than {processes}"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    return out


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def annotate_cached(
    annotator: Annotator,
    texts: Sequence[str],
    cache: Path,
    processes: int = 0,
    progress: Progress | None = None,
) -> list[Sentence]:
    """`annotate_parallel`, kept as CoNLL-U in the folder `cache` for the next time.

    The file is named by a hash of annotator and text and carries a checksum of its content; one
    that is corrupt is said and made again. Of several runs at once, one annotates, others wait.
    """
    key = hashlib.sha256(f"{_FORMAT}\n{annotator.fingerprint()}".encode())
    for text in texts:
        key.update(f"\n{text}".encode())
    path = cache / f"annotation-{key.hexdigest()[:16]}.conllu"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.exists():
            if (sentences := _stored(path, texts)) is not None:
                return sentences
            log.warning("%s is corrupt (its checksum differs): annotating again", path)
        log.info("annotating %d lines with %s, kept in %s", len(texts), annotator.name, path)
        sentences = annotate_parallel(annotator, texts, processes, progress)
        if blank := [i for i, s in enumerate(sentences) if not s.words]:
            raise UserError(
                f"annotator={annotator.name} finds no word in line {blank[0] + 1}: "
                f"{texts[blank[0]]!r}; remove the line"
            )
        body = write_conllu(sentences).encode()
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(f"# sha256 = {hashlib.sha256(body).hexdigest()}\n".encode() + body)
        os.replace(temporary, path)
    return sentences


def _stored(path: Path, texts: Sequence[str]) -> list[Sentence] | None:
    head, _, body = path.read_bytes().partition(b"\n")
    if head.decode(errors="replace") != f"# sha256 = {hashlib.sha256(body).hexdigest()}":
        return None
    sentences = list(parse_conllu(body.decode().split("\n"), str(path)))
    return sentences if [s.text for s in sentences] == list(texts) else None
