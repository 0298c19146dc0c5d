"""What tables support: the same as `nmt-feat claims TABLE.json...`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("claims")
