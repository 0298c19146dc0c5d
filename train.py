"""Train one run: `python train.py combiner=gate`; a table: `python train.py -m combiner=...`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("train")
