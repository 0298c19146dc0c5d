"""Translate with a trained run: `python translate.py run=runs/... < sentences.txt`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("translate")
