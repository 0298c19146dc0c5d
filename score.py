"""Log-probabilities of given translations: `python score.py run=runs/... source=S target=T`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("score")
