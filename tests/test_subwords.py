import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nmt_feat.config.data_schema import SubwordConfig
from nmt_feat.embedders.ids import BOS, EOS, PAD, UNK
from nmt_feat.errors import UserError
from nmt_feat.text.subwords import Subwords

TEXTS = [
    "Grüße aus   München – schön!",
    "한국어 문장입니다.",
    "Emoji 👩‍👩‍👧 und 🙂 x",
    " leading and trailing ",
    "a\u0308 combining A\u030a",
    "tab\tno-break\u00a0ideographic\u3000space",
    "<s> </s> <unk> <pad>",
    "The quick brown fox jumps over the lazy dog.",
]


def config(**settings: Any) -> SubwordConfig:
    return SubwordConfig(**{"vocab_size": 120, **settings})


def train(kind: str, texts: list[str] = TEXTS, **settings: Any) -> Subwords:
    size = {"unigram": 70}.get(kind, 120)
    return Subwords.train(config(**{"kind": kind, "vocab_size": size, **settings}), texts * 5)


@pytest.fixture(scope="module", params=[("bpe", False), ("unigram", False), ("bpe", True)], ids=str)
def model(request: pytest.FixtureRequest) -> Subwords:
    kind, fallback = request.param
    return train(kind, **({"byte_fallback": True, "vocab_size": 376} if fallback else {}))


@pytest.mark.parametrize("text", [*TEXTS, "", "   ", "ungesehene Wörter: ж漢字 e\u0301"])
def test_spans_tile_the_raw_text(model: Subwords, text: str) -> None:
    pieces = model.encode(text)
    assert [p.id for p in pieces] == model.encode_ids([text])[0]
    assert "".join(text[p.start : p.end] for p in pieces) == text
    at = 0
    for piece in pieces:
        assert piece.start == at <= piece.end
        at = piece.end


@pytest.mark.parametrize("text", [text for text in TEXTS if "<unk>" not in text])
def test_decode_gives_the_text_back(model: Subwords, text: str) -> None:
    ids = model.encode_ids([text])[0]
    assert UNK not in ids
    assert model.decode([BOS, *ids, EOS, PAD]) == text


@pytest.mark.parametrize("text", TEXTS)
def test_spans_are_those_of_the_characters(text: str) -> None:
    model = train("unigram")
    for piece in model.encode(text):
        if piece.id != UNK:
            assert text[piece.start : piece.end].strip(" ") == model.decode([piece.id]).strip(" ")


def test_special_ids_and_size(model: Subwords) -> None:
    assert (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)
    assert model.size in (70, 120, 376)
    assert max(i for ids in model.encode_ids(TEXTS) for i in ids) < model.size


def test_unknown_characters_are_shown() -> None:
    model = train("bpe")
    ids = model.encode_ids(["The ж dog."])[0]
    assert ids.count(UNK) == 1
    assert model.decode(ids) == "The ⁇ dog."
    fallback = train("bpe", byte_fallback=True, vocab_size=400)
    assert fallback.decode(fallback.encode_ids(["The ж dog."])[0]) == "The ж dog."


@pytest.mark.thorough
def test_same_bytes_in_another_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.test_subwords import train\n"
        "for kind in ('bpe', 'unigram'): train(kind).save(Path(sys.argv[1], kind))"
    )
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, check=True, env=environment, cwd=root)
    for kind in ("bpe", "unigram"):
        train(kind).save(tmp_path / "here")
        theirs = (tmp_path / f"{kind}.model").read_bytes()
        assert (tmp_path / "here.model").read_bytes() == theirs


@pytest.mark.parametrize("kind", ["bpe", "unigram", "none", "given"])
def test_save_and_load(kind: str, tmp_path: Path) -> None:
    model = train(kind)
    model.save(tmp_path / "source")
    again = Subwords.load(tmp_path / "source")
    assert again.size == model.size
    assert [again.encode(t) for t in TEXTS] == [model.encode(t) for t in TEXTS]
    ids = model.encode_ids(TEXTS)
    assert [again.decode(i) for i in ids] == [model.decode(i) for i in ids]


def test_long_lines_are_not_dropped() -> None:
    model = train("bpe", ["ab " * 3000 + "ж", "ab ab"], vocab_size=12)
    assert UNK not in model.encode_ids(["ж"])[0]


def test_training_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    train("unigram")
    assert capfd.readouterr() == ("", "")


def test_words() -> None:
    model = Subwords.train(config(kind="none"), ["b a  a", "c\u00a0a <s>"])
    assert [tuple(p) for p in model.encode(" a  ж c")] == [(4, 1, 2), (UNK, 4, 5), (6, 6, 7)]
    assert model.encode_ids([" a  ж c"]) == [[4, UNK, 6]]
    assert model.decode([BOS, 4, UNK, 6, EOS]) == "a <unk> c"
    assert model.size == 7  # <s> in the text is no word of the vocabulary
    assert Subwords.train(config(kind="none", min_count=2), ["b a a"]).size == 5
    assert Subwords.train(config(kind="none", vocab_size=1), ["b a a"]).size == 5


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("the hou@@ ses are lo@@ w .", "the houses are low ."),
        ("▁the ▁hou ses ▁are ▁low .", "the houses are low."),
        ("an open hou@@", "an open hou"),
        ("the hou￭ ses are low ￭.", "the houses are low."),
        ("well ￭-￭ known", "well-known"),
    ],
)
def test_given_segmentation_is_undone(text: str, plain: str) -> None:
    model = Subwords.train(config(kind="given"), [text])
    assert model.decode([*model.encode_ids([text])[0], EOS]) == plain


@pytest.mark.parametrize(
    ("settings", "texts", "message"),
    [
        (
            {"kind": "bpe", "vocab_size": 8000},
            ["the houses are low", "low houses"],
            "subword.vocab_size=8000: too large for this text, bpe finds at most 45 pieces; "
            "set subword.vocab_size=45 or less",
        ),
        (
            {"kind": "unigram", "vocab_size": 8000},
            ["the houses are low", "low houses"],
            "subword.vocab_size=8000: too large for this text, unigram finds at most 17 pieces; "
            "set subword.vocab_size=17 or less",
        ),
        (
            {"kind": "bpe", "vocab_size": 8},
            ["the houses are low"],
            "subword.vocab_size=8: too small for this text, its characters alone need 15; set "
            "subword.vocab_size=15 or more, or a lower subword.character_coverage",
        ),
    ],
)
def test_errors(settings: dict, texts: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        Subwords.train(config(**settings), texts)
    assert str(error.value) == message


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_size_that_the_error_names_works(kind: str) -> None:
    with pytest.raises(UserError) as error:
        train(kind, vocab_size=8000)
    largest = int(str(error.value).split()[-3].split("=")[1])
    assert train(kind, vocab_size=largest).size == largest
    with pytest.raises(UserError):
        train(kind, vocab_size=largest + 1)
