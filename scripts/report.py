"""The table of finished runs: the same as `nmt-feat report FOLDER...`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("report")
