"""Experiments from Python: train, load a run, translate, score, inspect a sentence, read results.

For example:

    from nmt_feat.api import load_run, read_runs, train

    finished = train(["combiner=gate", "features=[upos]"])
    run = load_run(finished.folder)
    run.translate(["The old house is red."])
    read_runs("runs")

An error that the user can mend, such as a wrong setting, is a `UserError` with one plain sentence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from nmt_feat.cli.compose import compose_settings
from nmt_feat.config.inference_schema import ScoreConfig, TranslateConfig
from nmt_feat.config.rules import check_inference
from nmt_feat.data.alignment import find_first_pieces, find_word_of_piece
from nmt_feat.data.batches import collate
from nmt_feat.errors import UserError
from nmt_feat.evaluation.combiner_diagnostics import SPECIAL
from nmt_feat.extras import import_optional
from nmt_feat.runs.run import FinishedRun, run_training
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.stored.records import RunRecord
from nmt_feat.runs.trained.long_lines import MostPieces, Translation
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import Sentence, read_conllu
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.word_values import whitespace_words

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FinishedRun",
    "InspectedWord",
    "LoadedRun",
    "Score",
    "Sentence",
    "UserError",
    "load_run",
    "read_conllu",
    "read_runs",
    "train",
]

COLUMNS = (
    *("folder", "method", "features", "control", "seed", "data", "set", "bleu", "chrf", "ter"),
    *("perplexity", "reading", "parameters", "updates", "seconds"),
)
"""The columns of `read_runs` that every run has."""


class Score(NamedTuple):
    """The score of a translation."""

    log_probability: float
    """The natural logarithm of its probability by the model."""
    pieces: int
    """Number of its pieces; the end symbol counts."""


@dataclasses.dataclass(frozen=True)
class InspectedWord:
    """A word of a source sentence, as the model reads it."""

    text: str
    pieces: list[str]
    features: dict[str, str]
    """The value of each feature, of the word's first piece."""
    gates: dict[str, float]
    """For each part (the word's own embedding, each feature) the factor by which the combiner
    multiplies it, as a mean over pieces and model width. Empty if the combiner is not a gate."""


class LoadedRun:
    """A finished run, to translate with and to inspect; `load_run` returns it.

    Attributes:
        folder: of the run.
        model: the PyTorch model, vocabularies and annotator.
    """

    def __init__(
        self, folder: str | Path, threads: int = 0, glossary: str | Path | None = None
    ) -> None:
        self.folder = Path(folder)
        self.model = TrainedModel(folder, threads)
        self.model.use_glossary(glossary)

    def translate(
        self, texts: Sequence[str] | Sequence[Sentence], beam: int | None = None
    ) -> list[str]:
        """The best translation of each sentence.

        Args:
            texts: plain text, which is annotated as in training, or annotated sentences
                (`read_conllu`).
            beam: of the search; the run's, if not given.
        """
        cfg = TranslateConfig(run=str(self.folder), beam=beam)
        check_inference(cfg)
        if isinstance(texts, str):  # whose characters would be translated one by one
            raise UserError("texts: is one text; give a list of sentences, such as [text]")
        if len({isinstance(text, str) for text in texts}) > 1:
            raise UserError("texts: has plain text and annotated sentences; give one of them")
        limit = self.model.length_limit(cfg)
        sentences = [
            self.model.normalize_sentence(Sentence(text) if isinstance(text, str) else text)
            for text in texts
        ]
        parts, where = limit.divide(sentences, self._name_sentences(len(sentences)))
        if any(isinstance(text, str) for text in texts):
            parts = self._annotate([part.text for part in parts])
        else:
            parts = self.model.annotation.complete_sentences(parts, "texts")

        def translate_part(
            part: list[Sentence], names: list[str], first_time: bool
        ) -> list[list[Translation]]:
            return self.model.translate_sentences(part, names, cfg, first_time)

        results = limit.gather(limit.within_memory(translate_part, parts, where))
        return [translations[0][0] for translations in results]

    def score(self, pairs: Sequence[tuple[str | Sentence, str]]) -> list[Score]:
        """The log-probability of each pair's translation, without a search."""
        if not pairs:
            return []
        sentences = self._read([source for source, _ in pairs])
        targets = [target for _, target in pairs]
        where = self._name_sentences(len(pairs))
        limit = MostPieces.choose(ScoreConfig().max_pieces, self.model.longest_side)
        return [Score(*s) for s in self.model.score_pairs(sentences, targets, where, limit)]

    @torch.inference_mode()
    def inspect(self, text: str | Sentence) -> list[InspectedWord]:
        """The words of a source sentence with their features and, for gates, the gates' values.

        The words of a run without features are those between spaces.
        """
        model, source = self.model, self.model.model.feature_embedding
        (sentence,), names = self._read([text]), model.feature_names
        if not sentence.text.strip():
            return []
        where = self._name_sentences(1)
        split = model.encode_pairs([sentence], [""], where, count=False, has_tokens=False)
        described = model.describe_sentences([sentence], where)
        batch = collate(split, np.array([0]), names).to(model.device)
        tags = [f"<{name}>" for name in reversed(names) if name in split.tags]
        ids = batch.source[0, len(tags) : -1].tolist()
        pieces = [*tags, *(model.encoder.subwords.decode([i]) or "▁" for i in ids)]
        begins = described.begins
        if not names:
            spaced = [Sentence(line, whitespace_words(line)) for line in described.words.texts]
            owner = find_word_of_piece(described.pieces, Sentences.of(spaced), where)
            begins = find_first_pieces(owner, described.pieces.counts)
        begins = [True] * len(tags) + begins.tolist()
        rows = [batch.source, *(batch.features[name] for name in source.features)]
        weights = source.combiner.weights_of(
            source.embed_parts(rows, source.compose_units(batch.features))
        )
        gates = torch.empty(len(pieces), 0) if weights is None else weights[0, :-1].mean(-1)
        labels = {name: [*SPECIAL, *v] for name, v in model.encoder.name_values().items()}
        words = []
        starts = [i for i, begin in enumerate(begins) if begin]
        for start, end in zip(starts, [*starts[1:], len(pieces)], strict=True):
            values = {name: labels[name][int(batch.features[name][0, start])] for name in labels}
            means = gates[start:end].mean(0).tolist()
            words.append(
                InspectedWord(
                    "".join(pieces[start:end]).lstrip("▁"),
                    pieces[start:end],
                    values,
                    dict(zip(source.combiner.names, means, strict=False)),
                )
            )
        return words

    def _read(self, texts: Sequence[str | Sentence]) -> list[Sentence]:
        """Sentences with annotation. All plain text is annotated together, which is faster."""
        plain = [text for text in texts if isinstance(text, str)]
        normalize = self.model.normalize_sentence
        parsed = [normalize(text) for text in texts if isinstance(text, Sentence)]
        complete_sentences = self.model.annotation.complete_sentences
        of_plain = iter(self._annotate(plain) if plain else [])
        of_parsed = iter(complete_sentences(parsed, "texts") if parsed else [])
        return [next(of_plain if isinstance(text, str) else of_parsed) for text in texts]

    def _annotate(self, texts: list[str]) -> list[Sentence]:
        return self.model.annotation.annotate_texts(texts, None, "texts")

    def _name_sentences(self, count: int) -> list[str]:
        """Names of sentences for messages."""
        return [f"texts: sentence {number}" for number in range(1, count + 1)]


def load_run(folder: str | Path, threads: int = 0, glossary: str | Path | None = None) -> LoadedRun:
    """A finished run, ready to translate.

    Args:
        folder: the run's folder.
        threads: CPU threads; 0 keeps PyTorch's choice.
        glossary: file of terms that are written into the text, for runs with `data.terminology`.
    """
    return LoadedRun(folder, threads, glossary)


def train(settings: Sequence[str] = (), config_dir: str | None = None) -> FinishedRun:
    """Train one run as `train.py` does with these settings, or find it finished.

    Args:
        settings: as on the command line, `["combiner=gate", "model.dim=128"]`.
        config_dir: folder of your own options, in addition to a folder `conf` of the current one.
    """
    from nmt_feat.cli.train_job import reduce_changed_scale  # takes a while to load

    if isinstance(settings, str):  # whose characters would be settings
        raise UserError('settings: is one text; give a list, such as ["combiner=gate"]')
    cfg = compose_settings(settings, config_dir)
    return run_training(reduce_changed_scale(cfg, settings))


def read_runs(folder: str | Path) -> pd.DataFrame:
    """The finished runs in a folder or anywhere below it, a row for each run and set of text.

    Columns: folder, method, features, control, seed, data, set, bleu, chrf, ter, perplexity,
    reading (share of right readings), parameters, updates, seconds; and one for each further
    metric, by its name. An ensemble has no seed.
    """
    pandas = import_optional("pandas", "read_runs", "analysis")
    rows = [
        row
        for path, record in find_runs([Path(folder)]).items()
        for row in _list_scores(path, record)
    ]
    # The columns are there without rows, too: while the first run trains.
    table: pd.DataFrame = pandas.DataFrame(rows, columns=None if rows else COLUMNS)
    return table


def _list_scores(folder: Path, record: RunRecord) -> list[dict[str, object]]:
    """The rows of a run; none where it is not finished."""
    return [
        {
            "folder": str(folder),
            "method": record.method,
            "features": " ".join(record.features),
            "control": record.settings.get("control", "none"),
            "seed": None if record.members else record.seed,
            "data": record.data,
            "set": name,
            "bleu": scores.bleu,
            "chrf": scores.chrf,
            "ter": scores.ter,
            **{metric: one.score for metric, one in scores.metrics.items()},
            "perplexity": scores.perplexity,
            "reading": scores.reading.accuracy if scores.reading else None,
            "parameters": record.parameters.get("total"),
            "updates": record.updates,
            "seconds": record.seconds,
        }
        for name, scores in record.scores.items()
    ]
