"""How much a run relies on its annotation: the same as `nmt-feat reliance RUN`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("reliance")
