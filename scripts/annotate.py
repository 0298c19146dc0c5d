"""Annotate text as CoNLL-U: the same as `nmt-feat annotate INPUT OUTPUT.conllu annotator=spacy`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("annotate")
