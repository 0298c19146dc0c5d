"""COMET of translations: the same as `nmt-feat score-comet --source S --target T FILE.hyp ...`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("score-comet")
