"""COMET of translations: `nmt-feat score-comet --source S --target T FILE.hyp ...`.

A score learned from human judgement (Rei et al. 2020), by its own package, unbabel-comet, and the
model that `--model` names or whose file it is. The package needs NumPy below 2: install it in a
separate environment. It fetches the model, 2.3 GB, when it is first used, and unpickles it: use one
that you trust.
"""

import sys
from statistics import fmean

from nmt_feat.base.terminal import say
from nmt_feat.cli.texts import add_text_options, choose_input_text, make_parser
from nmt_feat.errors import UserError
from nmt_feat.evaluation.comet import COMET, MODEL
from nmt_feat.evaluation.languages import Scoring
from nmt_feat.runs.trained.inputs import Reader
from nmt_feat.text.files import read_lines


def main() -> None:
    """Score, and show the scores."""
    parser = make_parser(__doc__)
    parser.add_argument("hypotheses", nargs="+", metavar="FILE", help="such as test.hyp of a run")
    parser.add_argument("--source", required=True, help="text, CoNLL-U or JSON lines")
    add_text_options(parser, raw=False)
    parser.add_argument("--target", required=True, help="the reference, line by line")
    parser.add_argument("--model", default=MODEL, help=f"name or file; default {MODEL}")
    options = parser.parse_args()
    sentences = list(Reader(choose_input_text(options.source, options)).read_sentences())
    targets = read_lines(options.target)
    outputs = [read_lines(name) for name in options.hypotheses]
    names = (options.target, *options.hypotheses)
    for name, lines in zip(names, (targets, *outputs), strict=True):
        if len(lines) != len(sentences):
            raise UserError(
                f"{options.source} has {len(sentences)} sentences, {name} has {len(lines)}; "
                "their lines must correspond"
            )
    sources = [sentence.text for sentence in sentences]
    metric = COMET(Scoring(), options.model)
    for name, output in zip(options.hypotheses, outputs, strict=True):
        say(f"{fmean(metric.score_sentences(sources, output, targets)) / 100:.4f}\t{name}")
    say(f"COMET by {options.model}", file=sys.stderr)
