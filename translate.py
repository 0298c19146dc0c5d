"""Translate with a trained run: `python translate.py run=runs/... < sentences.txt`."""

from nmt_feat.cli.programs import translate

if __name__ == "__main__":
    translate()
