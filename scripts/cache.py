"""What the cache holds and who uses it: the same as `nmt-feat cache`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("cache")
