"""A small corpus with a glossary."""

from __future__ import annotations

from pathlib import Path

from nmt_feat.text.conllu import read_conllu
from tests.support.small import Small, cut

GLOSSARY = "woman\tFrau\nwomen\tFrauen\nteacher\tLehrer\nold man\talter Mann\nking\tKaiser\n"
FACTOR = ("features=[term]", "combiner=add", "trainer.max_steps=2")
TAGS = ("combiner=none", "trainer.max_steps=2", "data.terminology.marking=tags")
PLAIN = ("train", "dev", "tests.test")


def write_corpus(folder: Path) -> Path:
    """The beginning of the bundled corpus, also as plain text, with a glossary."""
    cut(folder, train=300)
    for split in ("train", "dev", "test"):
        texts = [sentence.text for sentence in read_conllu(folder / f"{split}.conllu")]
        (folder / f"{split}.en").write_text("\n".join([*texts, ""]), encoding="utf-8")
    (folder / "test.en").write_text("The king saw the women.\n" * 8, encoding="utf-8")
    (folder / "glossary.tsv").write_text(GLOSSARY, encoding="utf-8")
    return folder


def write_small(folder: Path) -> Small:
    """The corpus, and how to run programs on it."""
    corpus = write_corpus(folder / "corpus")
    plain = {f"data.{key}.source": f"{key.rpartition('.')[2]}.en" for key in PLAIN}
    return Small(
        corpus,
        folder / "cache",
        folder,
        plain | {"data.terminology.glossary": corpus / "glossary.tsv", "data.readings": "false"},
    )
