"""Text through its annotator and the same text annotated beforehand: the same translations."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from nmt_feat.annotators.files import write_annotation
from nmt_feat.base.resources import find_resource
from nmt_feat.evaluation.split_decoding import score_split
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import Sentence, read_conllu
from nmt_feat.text.files import read_lines
from tests.support.applied import said
from tests.support.entry import call
from tests.support.small import Small

pytestmark = pytest.mark.slow

Pairs = list[tuple[str, str]]


def english() -> Pairs:
    folder = find_resource("data/embedded")
    texts = [sentence.text for sentence in itertools.islice(read_conllu(folder / "dev.conllu"), 40)]
    return list(zip(texts, read_lines(folder / "dev.de"), strict=False))


def korean() -> Pairs:
    parts = (
        {"나는": "ich", "그는": "er", "우리는": "wir", "친구가": "der Freund"},
        {"밥을": "Reis", "책을": "das Buch", "물을": "Wasser", "집을": "das Haus"},
        {"봤다.": "sah", "샀다.": "kaufte", "찾았어요.": "fand"},
    )
    rows = itertools.product(*(part.items() for part in parts))
    return [(" ".join(k for k, _ in row), " ".join(v for _, v in row) + ".") for row in rows]


@dataclass
class Tool:
    """An annotator of config, and text of its language."""

    settings: tuple[str, ...]
    package: str
    features: str
    pairs: Callable[[], Pairs] = english


TOOLS = {
    "udpipe": Tool(("annotator=udpipe", "annotator.model=UDPIPE"), "ufal.udpipe", "upos,deprel"),
    "hanta": Tool(("annotator=hanta",), "HanTa", "upos,lemma"),
    "kiwi": Tool(("annotator=kiwi",), "kiwipiepy", "upos,lemma", korean),
    "spacy": Tool(("annotator=spacy", "annotator.model=SPACY"), "spacy", "upos,deprel,lemma"),
}


@pytest.mark.parametrize("name", TOOLS)
def test_same_translations(
    name: str, small: Small, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Of the text and of its annotation as CoNLL-U; another annotation has other scores."""
    tool = TOOLS[name]
    pytest.importorskip(tool.package)
    settings = ["data=files", f"data.source_lang={'ko' if name == 'kiwi' else 'en'}"]
    settings += ["data.target_lang=de", "annotator.processes=1", *tool.settings, "combiner=gate"]
    for word, fixture in (("UDPIPE", "udpipe_model"), ("SPACY", "spacy_folder")):
        if tool.settings[-1].endswith(word):
            settings.append(f"annotator.model={request.getfixturevalue(fixture)}")
            settings.remove(tool.settings[-1])
    pairs = tool.pairs()
    for split, key, part in (
        ("train", "train", pairs),
        ("dev", "dev", pairs[:4]),
        ("test", "tests.test", pairs[-8:]),
    ):
        for side, column in (("source", 0), ("target", 1)):
            path = tmp_path / f"{split}.{side}"
            path.write_text("".join(f"{pair[column]}\n" for pair in part), encoding="utf-8")
            settings.append(f"data.{key}.{side}={path}")
    few = ("subword=none", "trainer.max_steps=4", "trainer.validate_every=4", "decoding.beam=2")
    folder = small.train(*settings, f"features=[{tool.features}]", *few)
    text, annotated = tmp_path / "test.source", tmp_path / "test.conllu"
    run = TrainedModel(folder)
    assert run.annotation.annotator
    write_annotation(run.annotation.annotator, read_lines(text), annotated, 1)
    expected = (folder / "test.hyp").read_text(encoding="utf-8")
    for source in (text, annotated):
        done = call("translate", f"run={folder}", f"input={source}")
        assert (done.code, said(done), done.out) == (0, "", expected)
    sentences = list(read_conllu(annotated))
    assert len({word.upos for sentence in sentences for word in sentence.words}) > 2
    second_sentences = [
        Sentence(sentence.text, tuple(word._replace(upos="X") for word in sentence.words))
        for sentence in sentences
    ]

    def scores(sentences: list[Sentence]) -> list[tuple[float, int]]:
        targets, where = read_lines(tmp_path / "test.target"), ["x"] * len(sentences)
        split = run.encode_pairs(sentences, targets, where)
        return score_split(run.model, split, list(run.cfg.features), 512, run.device)

    scores_of_file = scores(run.annotation.annotate_texts(read_lines(text), None, "x"))
    assert scores(sentences) == scores_of_file
    assert scores(second_sentences) != scores_of_file
