"""One form of text: equivalent texts are the same text, clean corpora keep what they are."""

from __future__ import annotations

from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmt_feat.cli.compose import compose_settings
from nmt_feat.config.data_schema import DataConfig, SubwordConfig
from nmt_feat.data.identity import hash_cache
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text import normalization as normal
from nmt_feat.text.conllu import Sentence, Word
from nmt_feat.text.normalization import (
    ESCAPED,
    NORMAL,
    is_normal,
    normalize_line,
    normalize_lines,
    normalize_sentence,
    normalize_sentences,
    normalize_with_places,
    rules_of_file,
)
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.subwords import Subwords
from tests.support.applied import good
from tests.support.entry import call
from tests.support.pairs import folder, four, run
from tests.support.small import Small, record

LETTERS = "aäéÅạ\u0301\u0308\u0323한글\u1112\u1161\u11ab\u0958\u212b▅▁\0\ufdd0x.가"
SPACES = " \t\u00a0\u3000\u2002\u2028\u0085\r\v"
TEXTS = st.text(st.sampled_from(LETTERS + SPACES), max_size=24)


@given(TEXTS)
def test_one_form(text: str) -> None:
    line = normalize_line(text)
    assert is_normal(line)
    assert normalize_line(line) == line
    assert is_normal(text) == (line == text)
    for same in (normalize("NFD", text), normalize("NFC", text), f"\u00a0{text}\t "):
        assert normalize_line(same) == line
    assert normalize_lines(["a", text, "b"]) == ["a", line, "b"]


@given(TEXTS)
def test_places(text: str) -> None:
    """They ascend from the begin to the end; whole words are where they were."""
    line, places = normalize_with_places(text)
    assert line == normalize_line(text)
    assert len(places) == len(text) + 1
    assert (np.diff(places) >= 0).all()
    assert places[-1] == len(line)
    at = 0
    for word in text.split():
        at = text.index(word, at)
        assert line[places[at] : places[at + len(word)]] == normalize_line(word)
        at += len(word)


WORDS = st.lists(st.text(st.sampled_from("aä\u0308\u1112\u1161x▅"), min_size=1, max_size=4))


@given(WORDS, st.sampled_from([" ", "  ", "\u00a0", "\t"]))
def test_words_keep_their_characters(forms: list[str], space: str) -> None:
    """Words between spaces, in columns and one by one; values are in normal form too."""
    text, words = "", []
    for form in forms:
        text += space
        words.append(Word(form, len(text), len(text) + len(form), lemma=form))
        text += form
    sentence = Sentence(text, tuple(words))
    alone = normalize_sentence(sentence)
    assert alone.text == " ".join(map(normalize_line, forms))
    assert [word.form for word in alone.words] == list(map(normalize_line, forms))
    assert [alone.text[w.start : w.end] for w in alone.words] == [w.form for w in alone.words]
    assert [word.lemma for word in alone.words] == [word.form for word in alone.words]
    assert list(normalize_sentences(Sentences.of([Sentence("b"), sentence]))) == [
        Sentence("b"),
        alone,
    ]


# ---- reserved characters

RESERVED_LINES = ["ab ▅ cd", "▅▅ ab", "a▁b cd", "cd \0 ab"] * 20


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_reserved_characters_are_learnt(kind: str, byte_fallback: bool) -> None:
    size = 271 if byte_fallback else 15
    cfg = SubwordConfig(kind, vocab_size=size, byte_fallback=byte_fallback)
    subwords = Subwords.train(cfg, RESERVED_LINES)
    for text in ["▅", "ab ▅▅ cd", "a▁b ▁ c", "\0"]:
        pieces = subwords.encode(text)
        assert subwords.decode([piece.id for piece in pieces]) == text
        assert all(piece.id != 1 for piece in pieces)
        pieces_of_text = subwords.pieces([text])
        spans = zip(pieces_of_text.ids, pieces_of_text.starts, pieces_of_text.ends, strict=True)
        assert [tuple(map(int, span)) for span in spans] == [tuple(piece) for piece in pieces]
        covered = "".join(text[piece.start : piece.end] for piece in pieces)
        assert covered == text


def test_a_model_of_an_old_run_is_not_escaped(tmp_path: Path) -> None:
    subwords = Subwords.train(SubwordConfig(vocab_size=20), RESERVED_LINES)
    subwords.save(tmp_path / "source")
    assert Subwords.load(tmp_path / "source").encode("a▁b") == subwords.encode("a▁b")
    (tmp_path / normal.RULES_FILE).unlink()
    old = Subwords.load(tmp_path / "source")
    assert old.decode([piece.id for piece in old.encode("a▁b")]) == "a b"


# ---- files

FILES = {
    "clean": ("text", "Ein Hund\nZwei\n", set()),
    "Windows": ("text", "Ein Hund\r\nZwei\r\n", set()),
    "decomposed": ("text", "Mu\u0308he\n", {NORMAL}),
    "no-break space": ("text", "10\u00a0%\n", {NORMAL}),
    "tab": ("text", "a\tb\n", {NORMAL}),
    "two spaces": ("text", "a  b\n", {NORMAL}),
    "space behind": ("text", "a\nb \nc\n", {NORMAL}),
    "space before": ("text", " a\n", {NORMAL}),
    "lone carriage return": ("text", "a\rb\n", {NORMAL}),
    "reserved": ("text", "a ▅\n", {ESCAPED}),
    "both": ("text", "a ▅ \n", {ESCAPED, NORMAL}),
    "spaces between tokens": ("pipe", "a|X  b|Y \n", set()),
    "decomposed token": ("tokens", "u\u0308\n", {NORMAL}),
    "conllu": ("conllu", "# id =  x  \n# text = a b\n1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n\n", set()),
    "text of conllu": ("conllu", "# text = a  b\n1\ta\t_\t_\t_\t_\t_\t_\t_\t_\n\n", {NORMAL}),
    "lemma of conllu": ("conllu", "1\ta\tu\u0308\t_\t_\t_\t_\t_\t_\t_\n\n", {NORMAL}),
    "jsonl": ("jsonl", '{"text":  "a b", "note": "a  b"}\n', set()),
    "escape of jsonl": ("jsonl", '{"text": "a\\u00a0b"}\n', {NORMAL}),
    "value of jsonl": (
        "jsonl",
        '{"text": "a", "words": [{"form": "a", "xpos": "▅ "}]}\n',
        {ESCAPED, NORMAL},
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_rules_of_files(tmp_path: Path, case: str) -> None:
    kind, content, expected = FILES[case]
    (tmp_path / "file").write_bytes(content.encode())
    kind = "tokens" if kind == "pipe" else kind
    assert rules_of_file(tmp_path / "file", kind, tmp_path) == expected


@pytest.fixture
def pairs(tmp_path: Path) -> DataConfig:
    return four(tmp_path)


def test_texts_are_read_in_normal_form(pairs: DataConfig) -> None:
    clean = run(pairs)
    for name in ("train.en", "train.de", "dev.en", "dev.de"):
        path = folder(pairs) / name
        lines = path.read_text().split("\n")[:-1]
        path.write_text(
            "".join(normalize("NFD", f" {line} \n").replace(" ", "\u00a0 ") for line in lines)
        )
    odd = run(pairs)
    assert (odd.train, odd.dev) == (clean.train, clean.dev)


def test_annotation_is_that_of_the_normal_form(pairs: DataConfig) -> None:
    """Forms of decomposed CoNLL-U fit composed text, and the other way round."""
    rows = "1\tschlo\u0308n\tscho\u0308n\tADJ\t_\t_\t0\troot\t_\t_\n"
    rows += "2\tda  da\tda\tADV\t_\t_\t1\tadvmod\t_\t_\n\n"
    data = folder(pairs)
    (data / "train.en").write_text("schlön\u2003da da \n" * 4)
    (data / "train.conllu").write_text(f"# text = schlo\u0308n da  da\n{rows}" * 4)
    (data / "dev.en").write_text("schlo\u0308n da da\n" * 2)
    (data / "dev.conllu").write_text(rows.replace("\u0308", "").replace("schlon", "schlön") * 2)
    pairs.train.conllu, pairs.dev.conllu, pairs.tests = "train.conllu", "dev.conllu", {}
    corpus = run(pairs, annotate=True)
    for sentence in (*corpus.train.source, *corpus.dev.source):
        assert sentence.text == "schlön da da"
        assert [(w.form, w.start, w.end) for w in sentence.words] == [
            ("schlön", 0, 6),
            ("da da", 7, 12),
        ]
    assert corpus.train.source[0].words[0].lemma == "schön"


# The first value was computed by the revision before there was a normal form.
EMBEDDED = "c46c4385786d02aeb7191467f27ae221568015f8a726252b3945eae59dab6c8b"


def test_clean_corpora_keep_their_fingerprint(tmp_path: Path) -> None:
    cfg = compose_settings([f"paths.cache={tmp_path}"])
    assert hash_cache(cfg, cfg.features) == EMBEDDED


def test_fingerprint_where_a_rule_takes_effect(pairs: DataConfig, tmp_path: Path) -> None:
    cfg = compose_settings([f"paths.cache={tmp_path}"])
    cfg.data = pairs
    results = {}
    test = folder(pairs) / "test.en"
    for name, text in (("clean", "A ▅.\n"), ("odd", "A  ▅.\n")):
        test.write_text(text)
        for kind in ("bpe", "given"):
            cfg.subword.kind = kind
            results[name, kind] = hash_cache(cfg, {})
    assert len(set(results.values())) == 4


# ---- a run


@pytest.fixture(scope="module")
def accents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose text has composed characters."""
    data = tmp_path_factory.mktemp("accents")
    for name, count in (("train", 30), ("dev", 2), ("test", 2)):
        (data / f"{name}.de").write_text("Die Mädchen müssen schön schlafen.\nÉs läuft.\n" * count)
        (data / f"{name}.en").write_text("The girls must sleep.\nIt runs.\n" * count)
    settings = {"data": "files", "data.source_lang": "de", "data.target_lang": "en"}
    for name in ("train", "dev", "tests.test"):
        settings[f"data.{name}.source"] = f"{name.removeprefix('tests.')}.de"
        settings[f"data.{name}.target"] = f"{name.removeprefix('tests.')}.en"
    settings |= {"subword.vocab_size": "60", "combiner": "none", "trainer.max_steps": "2"}
    small = Small(data, data / "cache", data, settings)
    return small.train()


def test_equivalent_texts_are_translated_and_scored_alike(accents: Path, tmp_path: Path) -> None:
    text, target = "Die Mädchen müssen 10 schlafen.", "The girls sleep."
    variants = [text, normalize("NFD", text), f"{text} ", text.replace(" ", "\u00a0")]
    variants += [text.replace(" ", "\t"), text.replace(" ", "  "), f"\u3000{text}\r"]
    (tmp_path / "in.txt").write_text("".join(f"{v}\n" for v in variants), newline="")
    targets = [target, f" {target}", target.replace(" ", "\u00a0")] + [target] * 4
    (tmp_path / "target.txt").write_text("".join(f"{t}\n" for t in targets))
    lines = good(call("translate", f"run={accents}", f"input={tmp_path / 'in.txt'}"))
    assert len(lines) == len(variants)
    assert len(set(lines)) == 1
    files = (f"source={tmp_path / 'in.txt'}", f"target={tmp_path / 'target.txt'}")
    assert len(set(good(call("score", f"run={accents}", *files)))) == 1


def test_an_old_run_keeps_what_it_did(accents: Path) -> None:
    """A folder without the rules, as they were before, reads text as it is."""
    assert record(accents)["text"] == normal.RULES
    rules = accents / "encoder" / normal.RULES_FILE
    content = rules.read_bytes()
    texts = ["Die Mädchen", normalize("NFD", "Die Mädchen"), "Die  Mädchen"]

    def pieces() -> list[list[int]]:
        run = TrainedModel(accents, 1)
        split = run.encode_pairs(
            run.annotation.annotate_texts(texts, None, "x"), [""] * 3, ["x"] * 3
        )
        return [split.source.row(i).tolist() for i in range(3)]

    new = pieces()
    sums = accents / "SHA256SUMS"
    before = sums.read_text() if sums.exists() else None
    rules.unlink()
    if before is not None:
        sums.write_text("".join(x for x in before.splitlines(True) if normal.RULES_FILE not in x))
    try:
        old = pieces()
    finally:
        rules.write_bytes(content)
        if before is not None:
            sums.write_text(before)
    assert new[0] == new[1] == new[2] == old[0]
    assert len(set(map(tuple, old))) == 3
