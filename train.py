"""Train one run: `python train.py combiner=gate`; a table: `python train.py -m combiner=...`."""

from nmt_feat.cli.programs import train

if __name__ == "__main__":
    train()
