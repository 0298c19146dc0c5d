"""Convert annotated text between the formats of toolkits.

nmt-feat convert --to pipe --factors upos,lemma train.conllu train.factored
nmt-feat convert --from ffe8 --factors lemma,feats.Case train.txt train.conllu
nmt-feat convert --from parallel --factors upos train.en train.jsonl

conllu; jsonl: a JSON object per line; pipe: `word|f1|f2` (Nematus, Sockeye); ffe8: the same with
U+FFE8 (OpenNMT); parallel: FILE with the words, FILE.upos ... with a factor each (Sockeye).
"""

import argparse
import contextlib
import sys
from collections.abc import Iterator

from nmt_feat.base.outputs import STANDARD, check_output, write_to
from nmt_feat.base.terminal import say
from nmt_feat.cli.texts import make_parser
from nmt_feat.errors import UserError, short_repr
from nmt_feat.text import formats
from nmt_feat.text.conllu import DEPS, EMPTY_NODE, OWN_HEAD, RANGE, Findings, Sentence, write_conllu
from nmt_feat.text.factored import parse_parallel, write_factored, write_parallel
from nmt_feat.text.factors import check_factors
from nmt_feat.text.files import read_lines
from nmt_feat.text.json_lines import write_jsonl
from nmt_feat.text.units import visible_characters

KINDS = ("conllu", "jsonl", "pipe", "ffe8", "parallel")


def main() -> None:
    """Convert a file as the command line says."""
    parser = make_parser(__doc__, whole=True)
    parser.add_argument("--from", dest="source", choices=KINDS, help="default: by INPUT's name")
    parser.add_argument("--to", dest="target", choices=KINDS, help="default: by OUTPUT's name")
    parser.add_argument("--factors", default="", help="their names, in order: upos,lemma")
    parser.add_argument("input", metavar="INPUT")
    parser.add_argument("output", metavar="OUTPUT")
    options = parser.parse_args()
    options.factors = [name for name in options.factors.split(",") if name]
    check_factors(options.factors, "--factors")
    source = options.source or _guess_kind(options.input, "--from")
    target = options.target or _guess_kind(options.output, "--to")
    factored = {source, target} & {"pipe", "ffe8", "parallel"}
    if factored and not options.factors:
        raise UserError(f"--factors: name the factors of {min(factored)}, such as: upos,lemma")
    if options.factors and not factored and source != "jsonl":
        raise UserError(f"--factors: {source} and {target} name all their columns; leave it out")
    inputs, outputs = [options.input], [options.output]
    if source == "parallel":
        inputs += [f"{options.input}.{name}" for name in options.factors]
    if target == "parallel":
        if options.output == STANDARD:
            raise UserError("-: parallel is a file for each factor; name a file")
        outputs += [f"{options.output}.{name}" for name in options.factors]
    for output in outputs:
        check_output(output, "", inputs)
    findings = Findings()
    sentences = _read_sentences(options.input, source, options.factors, findings)
    count = _write_files(sentences, options, target, outputs)
    _say_losses(findings)
    to_stdout = options.output == STANDARD  # which is for the text alone
    say(
        f"{count:,} sentences written to {'standard output' if to_stdout else options.output}",
        file=sys.stderr if to_stdout else sys.stdout,
    )


def _guess_kind(path: str, option: str) -> str:
    """The format of a file by its name."""
    kind = formats.kind_of(path)
    if kind == "text":
        raise UserError(f"{option}: {path} does not tell its format; one of {', '.join(KINDS)}")
    return kind


def _read_sentences(
    path: str, kind: str, factors: list[str], findings: Findings
) -> Iterator[Sentence]:
    lines = read_lines(path)
    if kind != "parallel":
        return formats.parse_lines(lines, path, kind, factors, findings=findings)
    sides = {name: (f"{path}.{name}", read_lines(f"{path}.{name}")) for name in factors}
    return parse_parallel(lines, path, sides)


def _format_rows(
    sentences: Iterator[Sentence], name: str, kind: str, factors: list[str]
) -> Iterator[tuple[str, ...]]:
    """For each sentence the text to add to each file; `parallel` has several files."""
    if kind == "parallel":
        return write_parallel(sentences, name, factors)
    if kind == "conllu":
        return ((_format_block(s, f"{name}: sentence {i}"),) for i, s in enumerate(sentences, 1))
    if kind == "jsonl":
        return ((line,) for line in write_jsonl(sentences))
    return ((line,) for line in write_factored(sentences, name, factors, kind))


def _say_losses(findings: Findings) -> None:
    """Count what CoNLL-U may hold and a `Sentence` does not, so that no output has it."""
    for result, kinds in (
        ("are one word each", (RANGE,)),
        ("are left out", (EMPTY_NODE, DEPS)),
        ("have no head", (OWN_HEAD,)),
    ):
        if losses := findings.describe(*kinds):
            say(f"{losses} {result}", file=sys.stderr)


def _format_block(sentence: Sentence, where: str) -> str:
    """The sentence in CoNLL-U, which cannot hold text without words."""
    if not sentence.words and visible_characters(sentence.text):
        raise UserError(
            f"{where}: {short_repr(sentence.text)} has no words, which CoNLL-U needs; annotate it "
            "first or convert to jsonl"
        )
    return write_conllu([sentence]).removesuffix("\n")


def _write_files(
    sentences: Iterator[Sentence], options: argparse.Namespace, kind: str, paths: list[str]
) -> int:
    """Write files, which get their names when they are whole; the number of sentences."""
    count = respaced = 0

    def count_sentences() -> Iterator[Sentence]:
        nonlocal count, respaced
        for sentence in sentences:
            count += 1
            respaced += " ".join(word.form for word in sentence.words) != sentence.text
            yield sentence

    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(write_to(path)) for path in paths]
        for row in _format_rows(count_sentences(), options.input, kind, options.factors):
            for file, line in zip(files, row, strict=True):
                file.write(f"{line}\n")
    if respaced and kind not in ("conllu", "jsonl"):
        say(
            f"{respaced:,} sentences differ from their text in spaces: {kind} holds tokens only",
            file=sys.stderr,
        )
    return count
