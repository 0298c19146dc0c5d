"""Export a run to CTranslate2: the same as `nmt-feat export RUN`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("export")
