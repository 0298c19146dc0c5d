"""Test sentences with their translations by the methods of a report."""

from __future__ import annotations

import dataclasses
import shlex
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from nmt_feat.analysis.method_runs import TestKey
from nmt_feat.analysis.result_tables import describe_scoring
from nmt_feat.base.checksums import check_sums
from nmt_feat.base.pool import Pool
from nmt_feat.base.resources import find_resource
from nmt_feat.config.data_schema import DataConfig, DownloadConfig
from nmt_feat.config.instantiate import refuse_classes_of_run
from nmt_feat.config.schema import TrainConfig
from nmt_feat.data.corpora import locate_splits
from nmt_feat.data.reading import CorpusReader
from nmt_feat.errors import UserError
from nmt_feat.evaluation.counts import hash_references, read_counts
from nmt_feat.evaluation.forms import COMMON_METRICS, score_by_form
from nmt_feat.evaluation.scores import scored_line
from nmt_feat.features.choice import choose_kinds, list_annotation_columns
from nmt_feat.runs.stored.records import RunRecord, file_of_run
from nmt_feat.runs.stored.settings import convert_settings
from nmt_feat.text.files import list_shards, read_lines
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.word_values import read_column

MOST_SENTENCES = 2000
"""The most sentences of a test set that are shown."""
TEXT_GROUPS = ("data", "annotator", "paths", "features")
"""Groups of a run's configuration that say how its test set is read."""


@dataclass
class Output:
    """One run's translation of a sentence."""

    words: list[str]
    """The words between spaces, or the characters with spaces, see `Examples.unit`."""
    differ: list[int]
    """Positions of words that differ from the reference, from 0."""
    scores: dict[str, float]
    """The sentence's scores by metric; BLEU is 0 if it has fewer than four tokens."""


@dataclass
class Example:
    """One sentence pair and its translations."""

    number: int
    """Its number in the test set, from 1."""
    words: list[list[str]]
    """Each source word with its features' values; the whole text if it is not annotated."""
    reference: str
    ambiguous: bool
    """Whether the test set has the same source with another reference."""
    length: int
    """Words of the reference between spaces, or its characters that are not white space."""
    outputs: list[Output]


@dataclass
class Examples:
    """A test set with translations by one run of each row."""

    test: str
    features: list[str]
    """The columns of the words' values."""
    methods: list[str]
    """The row's name and the seed of each output, in order."""
    sentences: list[Example]
    notes: list[str] = field(default_factory=list)
    unit: str = "word"
    """The unit of translations: `word`, or `character` in languages without spaces."""
    lower_is_better: list[str] = field(default_factory=list)
    """The metrics of the sentences of which a lower score is better."""


@dataclass(frozen=True)
class Corpora:
    """The folders that text may be read from, because a record may name any file."""

    folders: Sequence[Path] = ()
    """Folders that the user names; the shipped corpus is always allowed."""
    cache: Path = Path("cache")
    """The cache of the runs, with downloads and annotation."""

    def refuse_outside_folders(self, path: Path, downloads: str) -> None:
        """Refuse a file outside of these folders and of `downloads`, a folder in the cache."""
        folders = [find_resource("data/embedded"), *self.folders]
        parts = Path(downloads).parts
        if parts and ".." not in parts and not Path(downloads).is_absolute():
            folders.append(self.cache / downloads)  # never a path that leads out of the cache
        if not any(path.resolve().is_relative_to(folder.resolve()) for folder in folders):
            raise UserError(
                f"{path}: a run names this file; to let the page show its text, name its folder: "
                f"--text {shlex.quote(str(path.parent))}"
            )


def collect_examples(
    rows: Mapping[str, Sequence[RunRecord]],
    folders: Mapping[str, Path],
    corpora: Corpora,
) -> tuple[list[Examples], list[str]]:
    """The first test sets of the rows, and notes on what cannot be shown.

    For each row, one run is shown, with the seed that most rows have. Nothing is downloaded.

    Args:
        rows: the runs by the name of their row.
        folders: the folder of each run by its hash.
        corpora: the folders that text may be read from.
    """
    tests, notes = _group_by_test(rows, folders)
    test_sets = []
    for (test, references, _), by_name in tests.items():
        seeds = [run.seed for runs in by_name.values() for run in runs if not run.members]
        most_common = max(sorted(set(seeds)), key=seeds.count, default=None)
        chosen = {
            name: next((run for run in runs if run.seed == most_common), runs[0])
            for name, runs in by_name.items()
        }
        for name, reason in _find_refused(chosen).items():
            del chosen[name]
            notes.append(f"The text of {test} ({name}) cannot be shown: {reason}")
        if not chosen:
            continue
        try:
            test_sets.append(_read_examples(test, references, chosen, folders, corpora))
        except UserError as error:
            notes.append(f"The text of {test} ({', '.join(chosen)}) cannot be shown: {error}")
    return test_sets, notes


def _group_by_test(
    rows: Mapping[str, Sequence[RunRecord]], folders: Mapping[str, Path]
) -> tuple[dict[TestKey, dict[str, list[RunRecord]]], list[str]]:
    """The runs by test set, references and scoring, then by row; notes on rows without text."""
    tests: dict[TestKey, dict[str, list[RunRecord]]] = defaultdict(dict)
    without_text = []
    for name, runs in rows.items():
        for run in runs:
            test = next(iter(run.tests), None)
            if run.hash not in folders or test is None:
                continue
            files = [names.get(test, "") for names in (run.counts, run.files)]
            if all((folders[run.hash] / file).is_file() for file in files):
                references = read_counts(file_of_run(folders[run.hash], files[0]))[1]
                # The page compares scores of a sentence, so they have to be of one kind.
                key = test, references, describe_scoring(run.tests[test])
                tests[key].setdefault(name, []).append(run)
        has_text = any(name in by_name for by_name in tests.values())
        if not has_text and any(run.finished for run in runs):
            without_text.append(name)
    if not without_text:
        return tests, []
    return tests, [
        f"Without text: {', '.join(without_text)}. Their folders have results, but no translations "
        "with counts of each sentence, or they are not here."
    ]


def _find_refused(runs: Mapping[str, RunRecord]) -> dict[str, str]:
    """The runs that name classes of modules that are not trusted, with the reason."""
    refused = {}
    for name, run in runs.items():
        stored = {key: run.config[key] for key in TEXT_GROUPS if run.config.get(key)}
        try:
            refuse_classes_of_run(stored, "the run's configuration")
        except UserError as error:
            refused[name] = str(error)
    return refused


def _read_examples(
    test: str,
    references: str,
    runs: Mapping[str, RunRecord],
    folders: Mapping[str, Path],
    corpora: Corpora,
) -> Examples:
    source, targets, names, notes = _read_test_set(test, list(runs.values()), corpora)
    unit = next(iter(runs.values())).tests[test].perplexity_unit
    if hash_references(targets) != references:
        raise UserError("the corpus's files are no longer those that the runs were tested on")
    examples = _describe_sentences(source, targets, names, unit)
    for run in runs.values():
        folder = folders[run.hash]
        check_sums(folder, only=[run.files[test]])
        hypotheses = read_lines(file_of_run(folder, run.files[test]))
        counts, _ = read_counts(file_of_run(folder, run.counts[test]))
        if len(hypotheses) != len(examples) or len(counts["BLEU"]) != len(examples):
            raise UserError(f"{folder / run.files[test]}: does not have {len(examples)} lines")
        forms = {name: one.form for name, one in run.tests[test].metrics.items() if name in counts}
        scorers = COMMON_METRICS | {name: score_by_form(form) for name, form in forms.items()}
        scores = {name: score(counts[name]).tolist() for name, score in scorers.items()}
        for i, example in enumerate(examples[:MOST_SENTENCES]):
            words, reference = cut_text(hypotheses[i], unit), cut_text(targets[i], unit)
            sentence_scores = {name: round(values[i], 1) for name, values in scores.items()}
            example.outputs.append(
                Output(words, find_differences(words, reference), sentence_scores)
            )
    if len(examples) > MOST_SENTENCES:
        notes.append(f"The first {MOST_SENTENCES:,} of {len(examples):,} sentences.")
    methods = [name if run.members else f"{name}, seed {run.seed}" for name, run in runs.items()]
    metrics = [item for run in runs.values() for item in run.tests[test].metrics.items()]
    lower = sorted({name for name, one in metrics if one.lower_is_better})
    return Examples(test, names, methods, examples[:MOST_SENTENCES], notes, unit, lower)


def _describe_sentences(
    source: Sentences, targets: Sequence[str], names: Sequence[str], unit: str
) -> list[Example]:
    """The sentences of a test set with their features' values, without translations."""
    references_of = defaultdict(set)
    for text, target in zip(source.texts, targets, strict=True):
        references_of[text].add(scored_line(target))
    values = [read_column(source, name).strings().to_pylist() for name in names]
    words = iter(zip(source.forms(), *values, strict=True))
    sentences = zip(source.texts, source.counts.tolist(), targets, strict=True)
    return [
        Example(
            number=number,
            words=[list(next(words)) for _ in range(count)] or [[text]],
            reference=scored_line(target),
            ambiguous=len(references_of[text]) > 1,
            length=len("".join(target.split())) if unit == "character" else len(target.split()),
            outputs=[],
        )
        for number, (text, count, target) in enumerate(sentences, 1)
    ]


def cut_text(text: str, unit: str) -> list[str]:
    """The words of a text between spaces, or its characters."""
    return list(scored_line(text)) if unit == "character" else text.split()


def find_differences(words: Sequence[str], reference: Sequence[str]) -> list[int]:
    """Positions of the words outside the blocks that both texts share, in order."""
    blocks = SequenceMatcher(None, words, reference, autojunk=False).get_matching_blocks()
    equal = {i for block in blocks for i in range(block.a, block.a + block.size)}
    return [i for i in range(len(words)) if i not in equal]


def _read_test_set(
    test: str, runs: Sequence[RunRecord], corpora: Corpora
) -> tuple[Sentences, list[str], list[str], list[str]]:
    """The test set as the runs read it: source with words, references, columns, notes.

    Features are left out if the corpus or its annotator is missing.
    """
    features: dict[str, Any] = {}
    for run in runs:
        features |= run.config.get("features") or {}
    stored = {key: runs[0].config[key] for key in TEXT_GROUPS if key in runs[0].config}
    annotated = next(
        (run for run in runs if _is_annotated(run.config.get("annotator") or {})), None
    )
    if annotated:
        stored["annotator"] = annotated.config["annotator"]
    cfg = convert_settings(stored | {"features": features}, "the runs' configuration")
    if test not in cfg.data.tests:
        raise UserError(f"{cfg.data.name} has no such test set")
    split = cfg.data.tests[test]
    cache = corpora.cache
    downloads = str(cache / cfg.data.name) if cfg.data.download.url else "."
    # Only this split is read, and missing files are not downloaded.
    data = dataclasses.replace(
        cfg.data,
        folder=cfg.data.folder or downloads,
        download=DownloadConfig(),
        train=split,
        dev=split,
        tests={test: split},
        limit=None,
    )
    # User-defined kinds that a record names are not imported.
    shipped = {name: feature for name, feature in cfg.features.items() if not feature.kind}
    kinds = choose_kinds(shipped).values()
    names = list(dict.fromkeys(k.annotation_column for k in kinds if k.annotation_column))
    needed, notes = list_annotation_columns(kinds) or None, list[str]()
    if needed is not None:
        try:
            annotated_texts = _load_test_set(test, data, cfg, corpora, needed, bool(runs[0].text))
            return *annotated_texts, names, notes
        except (UserError, OSError) as error:  # such as a cache that cannot be written
            notes.append(f"Without features: {error}")
    try:
        return *_load_test_set(test, data, cfg, corpora, None, bool(runs[0].text)), [], notes
    except OSError as error:
        raise UserError(str(error)) from None


def _is_annotated(annotator: Mapping[str, Any]) -> bool:
    """Whether a run's settings have an annotator, or several."""
    return bool(annotator.get("_target_") or annotator.get("parts"))


def _load_test_set(
    test: str,
    data: DataConfig,
    cfg: TrainConfig,
    corpora: Corpora,
    annotation: tuple[str, ...] | None,
    normal: bool,
) -> tuple[Sentences, list[str]]:
    """Source and references of a test set; `normal`: whether the runs read text in normal form."""
    with tempfile.TemporaryDirectory() as folder, Pool(1, "reading", "data.processes") as pool:
        located = locate_splits(data, cfg.annotator, corpora.cache, annotation is not None)
        for path in located.tests[test].files.values():
            for file in list_shards(path):
                corpora.refuse_outside_folders(file, data.name)
        located.normal = normal
        settings = (data, cfg.annotator, annotation, corpora.cache)
        CorpusReader(located, *settings, Path(folder), pool).read_splits()
        table = located.tests[test]
        return table.source.rows(0, len(table.source)), list(table.target.texts)
