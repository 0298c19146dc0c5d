"""COMET of translations: `python scripts/score_comet.py --source S --target T FILE.hyp ...`.

A score learned from human judgement (Rei et al. 2020), by its own package, unbabel-comet, and the
model that `--model` names or whose file it is. The package wants NumPy below 2: install it in an
environment of its own. The model, 2.3 GB, is fetched by the package when it is first used, and
unpickled by it: take one that you trust.
"""

import argparse
import sys
from pathlib import Path

from nmt_feat.base.terminal import say, use_utf8
from nmt_feat.errors import UserError, fail
from nmt_feat.runs.inputs import add_options, read_all, text_of
from nmt_feat.text.files import read_lines

MODEL = "Unbabel/wmt22-comet-da"


def comet(
    sources: list[str], outputs: list[list[str]], targets: list[str], model: str
) -> list[float]:
    """The score of each of several systems' outputs."""
    try:
        from comet import download_model, load_from_checkpoint
    except ImportError:
        raise UserError(
            "COMET needs its package, in an environment of its own: pip install -e . unbabel-comet"
        ) from None
    import torch

    path = model if Path(model).is_file() else download_model(model)
    scorer, gpus = load_from_checkpoint(path), min(1, torch.cuda.device_count())
    found = []
    for output in outputs:
        rows = zip(sources, output, targets, strict=True)
        data = [{"src": source, "mt": text, "ref": target} for source, text, target in rows]
        found.append(float(scorer.predict(data, batch_size=16, gpus=gpus).system_score))
    return found


def main() -> None:
    """Score, and show the scores."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("hypotheses", nargs="+", metavar="FILE", help="such as test.hyp of a run")
    parser.add_argument("--source", required=True, help="text, CoNLL-U or JSON lines")
    add_options(parser, raw=False)
    parser.add_argument("--target", required=True, help="the reference, line by line")
    parser.add_argument("--model", default=MODEL, help=f"name or file; default {MODEL}")
    given = parser.parse_args()
    use_utf8()
    try:
        parsed = read_all(text_of(given.source, given))
        sources, targets = [sentence.text for sentence in parsed], read_lines(given.target)
        outputs = [read_lines(name) for name in given.hypotheses]
        for name, lines in zip((given.target, *given.hypotheses), (targets, *outputs), strict=True):
            if len(lines) != len(sources):
                raise UserError(
                    f"{given.source} has {len(sources)} sentences, {name} has {len(lines)}; "
                    "their lines must correspond"
                )
        found = comet(sources, outputs, targets, given.model)
    except UserError as error:
        fail(str(error))
    for name, score in zip(given.hypotheses, found, strict=True):
        say(f"{score:.4f}\t{name}")
    say(f"COMET by {given.model}", file=sys.stderr)


if __name__ == "__main__":
    main()
