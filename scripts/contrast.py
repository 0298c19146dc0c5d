"""Reading accuracy by forced scoring: the same as `nmt-feat contrast RUN`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("contrast")
