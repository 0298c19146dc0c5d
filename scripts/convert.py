"""Convert annotated text between formats: the same as `nmt-feat convert INPUT OUTPUT`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("convert")
