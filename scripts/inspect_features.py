"""What features say: the same as `nmt-feat inspect 'features=[upos,deprel]'`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("inspect")
