"""Annotate a text, a sentence a line, as CoNLL-U.

python scripts/annotate.py --annotator udpipe --model FILE.udpipe INPUT OUTPUT.conllu
python scripts/annotate.py --annotator hanta --language de INPUT OUTPUT.conllu

The same command continues an annotation that was interrupted.
"""

import argparse
import sys
from pathlib import Path

from nmt_feat.corpus.annotators import Annotator, HanTa, UDPipe, annotate
from nmt_feat.corpus.text import read_lines
from nmt_feat.errors import UserError


def main() -> None:
    """Read the command line, annotate, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--annotator", choices=["udpipe", "hanta"], required=True)
    parser.add_argument("--model", help="model file (udpipe)")
    parser.add_argument("--language", default="en", help="en or de (hanta)")
    parser.add_argument("--processes", type=int, default=0, help="0: one per core")
    parser.add_argument("input", help="text; .gz is read as such")
    parser.add_argument("output", help="CoNLL-U file to write")
    options = parser.parse_args()
    udpipe = options.annotator == "udpipe"
    annotator: Annotator = UDPipe(options.model) if udpipe else HanTa(options.language)
    annotate(annotator, read_lines(options.input), Path(options.output), options.processes)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
