"""Annotate a text, a sentence a line, or a folder of texts, as CoNLL-U.

nmt-feat annotate INPUT OUTPUT.conllu annotator=spacy annotator.model=en_core_web_sm
nmt-feat annotate TEXTS ANNOTATED annotator=hanta data.source_lang=de

Takes the annotator's settings of train.py, and its --config-dir. Each file of a folder, at any
depth, becomes a file of the same name with `.conllu` behind it in the folder OUTPUT. The same
command continues an annotation that was interrupted: a whole file of the same text by the same
annotator stays. Several annotators, annotator=[udpipe,spacy], give their columns together. Files of
a folder that cannot be annotated are named at the end. Text is brought into the form that training
reads (NFC, one space between words); blank lines are sentences without words.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from nmt_feat.annotators import Annotator
from nmt_feat.annotators.combined import write_annotations
from nmt_feat.annotators.texts import make_annotators
from nmt_feat.base.outputs import STANDARD, refuse_inputs, same_file
from nmt_feat.base.terminal import say
from nmt_feat.cli.compose import compose_settings
from nmt_feat.cli.texts import make_parser
from nmt_feat.config.rules import check_annotator
from nmt_feat.errors import UserError, fail
from nmt_feat.runs.signals import AT_ONCE
from nmt_feat.runs.trained.inputs import SAMPLE_SIZE, Text, refuse_factored
from nmt_feat.text.files import read_lines
from nmt_feat.text.formats import kind_of
from nmt_feat.text.normalization import normalize_lines


def plan_outputs(source: Path, target: Path) -> dict[Path, Path]:
    """The file to write for each text."""
    if str(target) == STANDARD or kind_of(target) == "jsonl":
        raise UserError(f"{target}: the annotation is a file of CoNLL-U; name it NAME.conllu")
    if not source.is_dir():
        if target.is_dir():
            raise UserError(f"{target}: is a folder; give a file")
        if same_file(target, source):
            raise UserError(f"{target}: is the text itself; give another file")
        return {source: target}
    if target.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{target}: is in {source}; choose a folder outside")
    texts = sorted(p for p in source.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not texts:
        raise UserError(f"{source}: the folder has no file to annotate")
    targets: dict[Path, Path] = {}
    for text in texts:
        name = f"{text.name.removesuffix('.gz')}.conllu"
        targets[text] = target / text.relative_to(source).with_name(name)
    for target_file in targets.values():
        refuse_inputs(target_file, "", texts)
    for text in texts:  # both would be written into the same file
        if text.name.endswith(".gz") and text.with_suffix("") in targets:
            raise UserError(f"{text}: stands beside {text.with_suffix('')}; remove one of them")
    return targets


def annotate_file(
    annotators: Mapping[str, Annotator], source: Path, target: Path, processes: int, plain: bool
) -> int:
    """Annotate a text, in normal form as for training; the number of its lines.

    `plain` says that its lines are plain text even if they look like words with factors.
    """
    if (kind := kind_of(source)) != "text":
        raise UserError(f"{source}: is annotated text ({kind}), not plain; leave it out")
    if not (lines := normalize_lines(read_lines(source))):
        raise UserError(f"{source}: the file is empty; leave it out")
    if not plain:
        refuse_factored(lines[:SAMPLE_SIZE], Text(str(source), option="--"))
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        for sentence in write_annotations(annotators, lines, target, processes):
            say(f"{source}: {sentence}", file=sys.stderr)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    return len(lines)


def annotate_files(
    annotators: Mapping[str, Annotator], files: dict[Path, Path], processes: int, plain: bool
) -> list[str]:
    """Annotate each text into its file; a message for each text that cannot be annotated."""
    failures = []
    for source, target in files.items():
        try:
            count = annotate_file(annotators, source, target, processes, plain)
            say(f"{source}: {count:,} sentences in {target}")
        except UserError as error:
            failures.append(str(error))
    return failures


def annotate_by_options(options: argparse.Namespace) -> None:
    """Annotate the texts that the command line names, by the annotators that it names."""
    cfg = compose_settings(options.settings, options.config_dir).annotator
    check_annotator(cfg)
    annotators = make_annotators(cfg)
    if not annotators:
        raise UserError("no annotator is chosen; set annotator=udpipe, hanta, spacy or another one")
    files = plan_outputs(options.input, options.output)
    failures = annotate_files(annotators, files, cfg.processes, plain=options.format != "auto")
    if len(files) == 1 and failures:
        raise UserError(failures[0])
    for failure in failures:
        say(failure, file=sys.stderr)
    if failures:
        raise UserError(f"{len(failures)} of {len(files)} files are not annotated, see above")


def main() -> None:
    """Annotate each file."""
    parser = make_parser(__doc__, whole=True)
    parser.add_argument("input", type=Path, help="text or folder of texts; .gz is read as such")
    parser.add_argument("output", type=Path, help="file or folder to write")
    kinds = ("auto", "text")
    parser.add_argument(
        "--format", choices=kinds, default="auto", help="text: plain, whatever it looks like"
    )
    parser.add_argument("--config-dir", "-cd", help="folder of your own options, as of train.py")
    parser.add_argument("settings", nargs="*", help="of train.py: annotator=..., data.source_lang")
    options = parser.parse_intermixed_args()
    try:
        annotate_by_options(options)
    except OSError as error:
        fail(f"{error.filename or options.output}: cannot be written ({error.strerror})")
    except KeyboardInterrupt:
        say("interrupted; the same command continues", file=sys.stderr)
        sys.exit(AT_ONCE)
