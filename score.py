"""Log-probabilities of given translations: `python score.py run=runs/... source=S target=T`."""

from nmt_feat.cli.programs import score

if __name__ == "__main__":
    score()
