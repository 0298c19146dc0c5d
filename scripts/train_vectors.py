"""Two sets of word vectors: the same as `nmt-feat train-vectors FOLDER`."""

from nmt_feat.cli.main import run_subcommand

if __name__ == "__main__":
    run_subcommand("train-vectors")
