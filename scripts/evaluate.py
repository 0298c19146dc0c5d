"""Test finished runs on further sets: the same as `nmt-feat evaluate run=FOLDER ...`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("evaluate")
