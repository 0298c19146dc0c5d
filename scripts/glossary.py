"""A glossary from aligned text: the same as `nmt-feat glossary SOURCE TARGET --out FILE`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("glossary")
