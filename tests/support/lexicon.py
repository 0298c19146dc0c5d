"""A corpus of a few known words, whose annotation and translation can be looked up."""

from collections.abc import Sequence
from pathlib import Path

from nmt_feat.config.data_schema import SplitConfig
from nmt_feat.config.schema import FeatureConfig, TrainConfig
from nmt_feat.text.conllu import Sentence, Word, write_conllu

LEXICON = {
    "the": ("DET", "the", "_", "die"),
    "dog": ("NOUN", "dog", "Number=Sing", "Hund"),
    "cats": ("NOUN", "cat", "Number=Plur", "Katzen"),
    "Peter": ("PROPN", "Peter", "Number=Sing", "Peter"),
    "sees": ("VERB", "see", "Tense=Pres", "sieht"),
    "ducks": ("VERB", "duck", "Tense=Pres", "duckt"),
    ".": ("PUNCT", ".", "_", "."),
}


def sentence(words: Sequence[str]) -> Sentence:
    text, result = "", []
    for word in words:
        text += " " * bool(text and word != ".")
        upos, lemma, feats, _ = LEXICON[word]
        end = len(text) + len(word)
        head = ("ROOT", 0) if not result else (result[0].upos, 1)
        result.append(Word(word, len(text), end, lemma, upos, "_", feats, "dep", *head))
        text += word
    return Sentence(text, tuple(result))


def write(folder: Path, name: str, lines: list[str]) -> None:
    sentences = [sentence(line.split()) for line in lines]
    (folder / f"{name}.conllu").write_text(write_conllu(sentences), encoding="utf-8")
    (folder / f"{name}.en").write_text("".join(s.text + "\n" for s in sentences), encoding="utf-8")
    targets = [" ".join(LEXICON[word][3] for word in line.split()) for line in lines]
    (folder / f"{name}.de").write_text("".join(t + "\n" for t in targets), encoding="utf-8")


TRAIN = ["the dog sees the cats .", "Peter ducks .", "the cats sees Peter ."] * 6


DEV = ["Peter sees the dog .", "the dog ducks ."]


def config(tmp_path: Path) -> TrainConfig:
    """What prepares that corpus, in a folder of its own."""
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, "train", TRAIN)
    write(folder, "dev", DEV)
    write(folder, "test", DEV[:1])
    cfg = TrainConfig()
    cfg.data.name = "tiny"
    cfg.data.source_lang, cfg.data.target_lang = "en", "de"
    cfg.data.folder = str(folder)
    cfg.data.train = SplitConfig("train.conllu", "train.de")
    cfg.data.dev = SplitConfig("dev.conllu", "dev.de")
    cfg.data.tests = {"test": SplitConfig("test.conllu", "test.de")}
    cfg.subword.vocab_size = 40
    cfg.paths.cache = str(tmp_path / "cache")
    return cfg


def features(*columns: str, **settings: object) -> dict[str, FeatureConfig]:
    """Features named by their columns."""
    return {c.replace(".", "_"): FeatureConfig(column=c, **settings) for c in columns}
