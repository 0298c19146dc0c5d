"""Accuracy of readings or of a contrastive suite, by forced scoring: `nmt-feat contrast RUN`.

A sentence with several readings has a translation for each. Does the model find the translation of
the annotated reading the most probable? No search takes part. The sentences are the run's test set,
or `--source FILE.conllu --target FILE`, where equal source lines are readings of one another.

`nmt-feat contrast run=RUN suite=FILE` asks for each pair of a suite whether the right translation
is more probable than the wrong one. The suite is JSON in the form of LingEval97, of ContraWSD or of
MuCoW, or a table with tabs (source, reference, contrastive, and optionally category and distance).
RUN may be a folder of runs. The accuracies are added to the runs' records, and so to the table and
the page of `nmt-feat report`. If a run needs annotated text, `--source FILE.conllu` has a sentence
for each entry of the suite.
"""

import argparse
import dataclasses
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from nmt_feat.base.terminal import say
from nmt_feat.cli.texts import (
    add_run_options,
    choose_input_text,
    explain_no_translation,
    make_parser,
    read_pairs,
)
from nmt_feat.config.inference_schema import ScoreConfig
from nmt_feat.errors import UserError
from nmt_feat.evaluation.contrastive_suites import ContrastResult, Decision, make_result, read_suite
from nmt_feat.evaluation.readings import measure_readings
from nmt_feat.evaluation.scores import Reading
from nmt_feat.evaluation.split_decoding import score_split
from nmt_feat.runs.stored.find_runs import find_runs
from nmt_feat.runs.stored.locks import lock_folder
from nmt_feat.runs.stored.records import FINISHED, read_record, write_record
from nmt_feat.runs.trained.inputs import Reader
from nmt_feat.runs.trained.long_lines import MostPieces
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import Sentence
from nmt_feat.text.files import hash_content


def contrast_readings(
    model: TrainedModel, sentences: list[Sentence], targets: list[str], where: list[str]
) -> Reading:
    """The accuracy if each sentence gets the most probable translation of its readings."""
    translations: dict[str, dict[str, None]] = defaultdict(dict)  # of all readings, in order
    for sentence, target in zip(sentences, targets, strict=True):
        translations[sentence.text][target] = None
    pairs = [(i, target) for i, s in enumerate(sentences) for target in translations[s.text]]
    model.encode_pairs(sentences, targets, where)  # counts what is unknown, each sentence once
    split = model.encode_pairs(
        [sentences[i] for i, _ in pairs],
        [target for _, target in pairs],
        [where[i] for i, _ in pairs],
        count=False,
    )
    budget = model.cfg.trainer.batch_tokens
    scores = score_split(model.model, split, model.feature_names, budget, model.device)
    best: dict[int, tuple[float, str]] = {}
    for (i, target), (logprob, _) in zip(pairs, scores, strict=True):
        best[i] = max(best.get(i, (logprob, target)), (logprob, target))
    chosen = [best[i][1] for i in range(len(sentences))]
    return measure_readings([s.text for s in sentences], targets, chosen)


def read_sources(
    model: TrainedModel, decisions: Sequence[Decision], path: Path, reader: Reader | None
) -> dict[int, Sentence]:
    """The source sentence of each entry, annotated as the model needs it.

    Args:
        model: the model.
        decisions: of the suite.
        path: the suite's file, for messages.
        reader: sources, one for each entry of the suite, which may be annotated; without it, the
            annotator of training annotates the suite's.
    """
    texts = {decision.entry: decision.source for decision in decisions}
    if reader is None:
        sentences = model.annotation.annotate_texts(list(texts.values()), None, str(path))
        return dict(zip(texts, sentences, strict=True))
    annotated = model.read_source(reader)
    if len(annotated) <= max(texts):
        raise UserError(
            f"{reader.label} has {len(annotated)} sentences, {path} has an entry {max(texts) + 1}; "
            "give one sentence for each entry, in order"
        )
    for entry, text in zip(texts, model.normalize_texts([*texts.values()]), strict=True):
        if "".join(annotated[entry].text.split()) != "".join(text.split()):
            raise UserError(
                f"{reader.label}: sentence {entry + 1} differs from the text of entry {entry + 1} "
                f"of {path}; give one sentence for each entry, in order"
            )
    return {entry: annotated[entry] for entry in texts}


def decide(
    model: TrainedModel, decisions: Sequence[Decision], sources: dict[int, Sentence], path: Path
) -> list[bool]:
    """For each decision, whether the reference is more probable than every wrong translation."""
    pairs = dict.fromkeys(
        (decision.entry, target)
        for decision in decisions
        for target in (decision.reference, *decision.contrastives)
    )
    sentences = [sources[entry] for entry, _ in pairs]
    targets = model.normalize_texts([target for _, target in pairs])
    where = [f"{path}: entry {entry + 1}" for entry, _ in pairs]
    references = {decision.entry: decision.reference for decision in decisions}
    model.encode_pairs(  # counts what is unknown, once for each entry
        [sources[entry] for entry in references],
        list(references.values()),
        [f"{path}: entry {entry + 1}" for entry in references],
    )
    limit = MostPieces(min(ScoreConfig.max_pieces, model.longest_side), is_setting=False)
    scores = model.score_pairs(sentences, targets, where, limit, count=False)
    logprobs = {pair: logprob for pair, (logprob, _) in zip(pairs, scores, strict=True)}
    return [
        all(logprobs[d.entry, d.reference] > logprobs[d.entry, wrong] for wrong in d.contrastives)
        for d in decisions
    ]


def decide_suite(
    folder: Path, decisions: Sequence[Decision], options: argparse.Namespace
) -> ContrastResult:
    """The result of a finished run on the suite, from its record or computed and recorded now."""
    path = options.suite
    name = re.sub(r"\s+", "_", path.stem)
    record = read_record(folder / FINISHED)
    earlier = record.contrast.get(name)
    source = options.source
    source_sum = hash_content(source)[:16] if source else ""
    is_same = earlier and earlier.suite == hash_content(path)[:16]
    if earlier and is_same and source_sum in ("", earlier.source):  # else by another annotation
        return earlier
    model = TrainedModel(folder)
    reader = model.make_reader(choose_input_text(source, options)) if source else None
    right = decide(model, decisions, read_sources(model, decisions, path, reader), path)
    model.unknowns.say()
    result = dataclasses.replace(make_result(path, decisions, right), source=source_sum)
    with lock_folder(folder, wait=True):
        record = read_record(folder / FINISHED)  # another command may have added to it
        record.contrast[name] = result
        write_record(folder, record)
    return result


def list_text_readers(top: Path) -> list[Path]:
    """The finished runs of a folder that can read a further text, without ensembles."""
    folders = []
    for folder, run in find_runs([top]).items():
        if run.members or not (folder / FINISHED).is_file():
            continue
        if reason := explain_no_translation(run):
            say(f"{folder.name}: {reason}; left out")
        else:
            folders.append(folder)
    if not folders:
        raise UserError(f"{top}: no finished run that can read a text; train one")
    return folders


def contrast_runs(options: argparse.Namespace) -> None:
    """Decide the suite by each run, and print its accuracies."""
    decisions = read_suite(options.suite)
    folders = [options.run]
    if not (options.run / FINISHED).is_file():
        folders = list_text_readers(options.run)
    for folder in folders:
        result = decide_suite(folder, decisions, options)
        say(f"{folder.name}: {result.accuracy:.1%} of {len(result.outcomes)} decisions are right")
        if len(folders) == 1:
            for name, (right, total) in result.categories.items():
                say(f"  {name}: {right / total:.1%} of {total}")
            for name, (right, total) in result.distances.items():
                say(f"  distance {name}: {right / total:.1%} of {total}")


def arrange_arguments(arguments: Sequence[str]) -> list[str]:
    """`run=RUN suite=FILE` as arguments of the parser."""
    arranged = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in ("run", "suite"):
            if not value:  # as a path, it would be the current folder
                raise UserError(f"{name}=: names nothing; give a run, and the file of a suite")
            arranged += [value] if name == "run" else [f"--suite={value}"]
        else:
            arranged.append(argument)
    return arranged


def main() -> None:
    """Score the pairs, and print how many the model decides correctly."""
    parser = make_parser(__doc__, whole=True)
    add_run_options(parser)
    parser.add_argument("--suite", type=Path, help="contrastive suite; also written suite=FILE")
    options = parser.parse_args(arrange_arguments(sys.argv[1:]))
    if options.suite:
        if options.target:
            raise UserError("--target: a suite has its translations in itself; leave it out")
        contrast_runs(options)
        return
    model = TrainedModel(options.run)
    reading = contrast_readings(model, *read_pairs(model, options))
    if reading.accuracy is None:
        name = options.source or f"the test set of {options.run}"
        raise UserError(f"{name}: no two lines have the same source text")
    model.unknowns.say()
    accuracy = f"{reading.accuracy:.1%} of {reading.readings}"
    say(f"{accuracy} readings are the most probable of their sentence")
