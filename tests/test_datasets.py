"""Corpora as they are read, and what cannot be read."""

import dataclasses
import gzip
from pathlib import Path
from typing import Any

import pytest

from nmt_feat.config.data_schema import DataConfig
from nmt_feat.text import files as text
from nmt_feat.text.conllu import Sentence, write_conllu
from tests.support.pairs import HANTA, NONE, fingerprint, folder, message, run


def test_words_only(pairs: DataConfig) -> None:
    corpus = run(pairs)
    assert corpus.train.source[1] == Sentence("Two cats see it.", ())
    assert corpus.train.target[1] == "Zwei Katzen sehen ihn."
    assert [len(s.target) for s in (corpus.train, corpus.dev, corpus.tests["test"])] == [4, 2, 1]
    assert corpus.notes == []
    assert not (folder(pairs).parent / "cache").exists()


def test_limit_is_of_training(pairs: DataConfig) -> None:
    limited = run(dataclasses.replace(pairs, limit=1))
    assert [len(s.target) for s in (limited.train, limited.dev)] == [1, 2]
    assert limited.fingerprint != run(pairs).fingerprint


@pytest.mark.thorough
def test_annotated(pairs: DataConfig) -> None:
    corpus = run(pairs, HANTA, True)
    assert [w.upos for w in corpus.train.source[2].words][:3] == ["DET", "NOUN", "PART"]
    assert len(list((folder(pairs).parent / "cache").glob("*.conllu"))) == 3
    assert run(pairs, HANTA, True) == corpus


def test_gz_and_windows_lines_and_bom_are_the_same_text(pairs: DataConfig) -> None:
    before = run(pairs)
    for path in folder(pairs).iterdir():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    zipped = run(pairs)
    assert zipped.fingerprint == before.fingerprint  # the content's
    assert zipped.train.source == before.train.source
    path = folder(pairs) / "train.en"
    lines = "\r\n".join(s.text for s in before.train.source)
    path.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert run(pairs).train.source == before.train.source


def test_the_same_bytes_as_json_are_other_data(pairs: DataConfig) -> None:
    json_pairs = dataclasses.replace(pairs, format="jsonl")
    cache = folder(pairs).parent / "cache"
    assert fingerprint(pairs, NONE, cache, False) != fingerprint(json_pairs, NONE, cache, False)


def test_lines_end_at_newline_only(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("a\u2028b\x85c\x0cd\n\ne", newline="")
    assert text.read_lines(path) == ["a\u2028b\x85c\x0cd", "", "e"]


def test_fingerprint_needs_no_annotation(pairs: DataConfig) -> None:
    cache = folder(pairs).parent / "cache"
    allowed = {
        fingerprint(pairs, NONE, cache, False),
        fingerprint(pairs, HANTA, cache, True),
        fingerprint(pairs, dataclasses.replace(HANTA, args={"language": "de"}), cache, True),
    }
    assert len(allowed) == 3
    assert not cache.exists()
    assert run(pairs, HANTA, True).fingerprint == fingerprint(pairs, HANTA, cache, True)
    (folder(pairs) / "dev.de").write_text("Etwas\nanderes\n")
    assert fingerprint(pairs, HANTA, cache, True) not in allowed
    processes = dataclasses.replace(HANTA, processes=7)
    assert fingerprint(pairs, HANTA, cache, True) == fingerprint(pairs, processes, cache, True)


def test_source_in_conllu(pairs: DataConfig) -> None:
    annotated = run(pairs, HANTA, True)
    (folder(pairs) / "train.conllu").write_text(write_conllu(annotated.train.source))
    (folder(pairs) / "spaced.conllu").write_text(
        write_conllu(annotated.dev.source).replace("# text = ", "# text =  ")
    )
    pairs.train.source = "train.conllu"
    pairs.dev.conllu = "spaced.conllu"
    pairs.tests = {}
    corpus = run(pairs, annotate=True)
    assert corpus.train.source == annotated.train.source
    assert corpus.dev.source == annotated.dev.source  # spans in the text of dev.en
    assert run(pairs).train.source[0] == Sentence("A dog sleeps.", ())
    again = run(pairs, dataclasses.replace(HANTA, replace=True), True)
    assert again.train.source == annotated.train.source
    assert again.notes == [
        "train: annotated by hanta; the annotation in train.conllu is unused",
        "dev: annotated by hanta; the annotation in spaced.conllu is unused",
    ]


def test_factors_beside_a_text_with_other_spaces(pairs: DataConfig) -> None:
    """The text is the same with features and without."""
    lines = ["A  dog sleeps.", "Two cats\u2003see it. "]
    for name, split, count in (("train", pairs.train, 2), ("dev", pairs.dev, 1)):
        tags = ["X X X", "X X X X"]
        for suffix, rows in (("en", lines), ("upos", tags), ("de", ["Ja.", "Ja."])):
            (folder(pairs) / f"{name}.{suffix}").write_text("\n".join(rows[:count]))
        split.factors = {"upos": f"{name}.upos"}
    pairs.tests = {}
    annotated, plain = run(pairs, annotate=True), run(pairs)
    for split, counterpart in ((annotated.train, plain.train), (annotated.dev, plain.dev)):
        assert [s.text for s in split.source] == [s.text for s in counterpart.source]  # type: ignore[attr-defined]
    assert [w.form for w in annotated.train.source[1].words] == ["Two", "cats", "see", "it."]


# ---- bad input


def change(name: str, content: bytes | str | None) -> Any:
    """Overwrite or remove a file of the corpus."""

    def apply(config: DataConfig) -> None:
        path = folder(config) / name
        path.unlink()
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return apply


def directory(config: DataConfig) -> None:
    change("dev.de", None)(config)
    (folder(config) / "dev.de").mkdir()


def truncated_gz(config: DataConfig) -> None:
    change("dev.de", None)(config)
    (folder(config) / "dev.de.gz").write_bytes(gzip.compress(b"eins\nzwei\n")[:-4])


def no_gz(config: DataConfig) -> None:
    change("dev.de", None)(config)
    (folder(config) / "dev.de.gz").write_bytes(b"eins\nzwei\n")


def test_a_name_from_the_current_folder(
    pairs: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the name that works: from `data.folder`, or from the root."""
    corpus = folder(pairs)
    (tmp_path / "elsewhere.de").write_bytes((corpus / "dev.de").read_bytes())
    for parent, name, whole in (
        (corpus.parent, f"{corpus.name}/dev.de", "dev.de"),
        (tmp_path, "elsewhere.de", f"{tmp_path.resolve()}/elsewhere.de"),
    ):
        monkeypatch.chdir(parent)
        pairs.dev.target = name
        assert message(pairs) == (
            f"data.dev.target={name}: no such file in {corpus}; names are relative to data.folder, "
            f"not to the current folder: data.dev.target={whole}"
        )
        pairs.dev.target = whole
        assert len(run(pairs).dev.target) == 2


BAD = {
    "missing": (
        change("dev.de", None),
        "data.dev.target=dev.de: no such file in FOLDER; correct the name or set data.folder",
    ),
    "empty": (change("dev.de", ""), "dev.de: the file is empty; data.dev needs sentences"),
    "empty source": (
        change("test.en", ""),
        "test.en: the file is empty; data.tests.test needs sentences",
    ),
    "directory": (directory, "dev.de: is a folder; give a file"),
    "truncated gzip": (
        truncated_gz,
        "dev.de.gz: broken gzip file (Compressed file ended before the end-of-stream marker was "
        "reached); get it again",
    ),
    "no gzip": (
        no_gz,
        "dev.de.gz: broken gzip file (Not a gzipped file (b'ei')); get it again",
    ),
    "encoding": (
        change("train.de", "Straße\nHäuser\nc\nd\n".encode("latin-1")),
        "train.de:1: invalid UTF-8 at byte offset 4 (0xdf); "
        "convert the file: iconv -f ENCODING -t UTF-8",
    ),
    "encoding, later line": (
        change("train.de", b"a\nb\n\xc3\n"),
        "train.de:3: invalid UTF-8 at byte offset 4 (0xc3); "
        "convert the file: iconv -f ENCODING -t UTF-8",
    ),
    "counts": (
        change("train.de", "a\nb\nc\n"),
        "data.train: train.en has 4 sentences, train.de has 3; their lines must correspond",
    ),
    "nothing but blank lines": (
        change("dev.de", "\u3000\n \t\n"),
        "dev.de: all 2 lines are blank; give sentences",
    ),
}


@pytest.mark.parametrize(("spoil", "expected"), BAD.values(), ids=BAD.keys())
def test_bad_files(pairs: DataConfig, spoil: Any, expected: str) -> None:
    spoil(pairs)
    assert message(pairs).replace(f"{pairs.folder}", "FOLDER") == expected


def test_no_folder(pairs: DataConfig) -> None:
    pairs.folder = "no/such"
    assert message(pairs) == "data.folder=no/such: no such folder"


def test_test_set_named_as_another_split(pairs: DataConfig) -> None:
    pairs.tests = {"dev": pairs.dev}
    assert message(pairs) == "data.tests.dev: the name is taken; give the test set another"


def test_features_without_annotation(pairs: DataConfig) -> None:
    assert message(pairs, annotate=True) == (
        "data.train.source=train.en: features need annotation; set annotator=udpipe or "
        "annotator=hanta, or data.train.conllu=FILE.conllu"
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["A dog sleeps.", "Two dogs see it."],
            "dev.conllu: sentence 2: the annotation does not fit the text 'Two cats see it.': "
            "'dogs' is not at character 4 ('cats see it.' ...); annotate this very text",
        ),
        (
            ["A dog sleeps."],
            "data.dev: dev.en has 2 sentences, dev.conllu has 1; their lines must correspond",
        ),
        (
            ["A dog sleeps.", "Two cats see it.", "More."],
            "data.dev: dev.en has 2 sentences, dev.conllu has 3; their lines must correspond",
        ),
    ],
)
def test_annotation_of_another_text(pairs: DataConfig, lines: list[str], expected: str) -> None:
    corpus = run(pairs, HANTA, True)
    (folder(pairs) / "train.conllu").write_text(write_conllu(corpus.train.source))
    rows = "".join(
        f"# text = {line}\n"
        + "".join(f"{i}\t{w}\t_\tX\t_\t_\t0\troot\t_\t_\n" for i, w in enumerate(line.split(), 1))
        + "\n"
        for line in lines
    )
    (folder(pairs) / "dev.conllu").write_text(rows)
    pairs.train.conllu, pairs.dev.conllu, pairs.tests = "train.conllu", "dev.conllu", {}
    assert message(pairs, annotate=True) == expected


def test_broken_conllu_names_file_and_line(pairs: DataConfig) -> None:
    (folder(pairs) / "train.conllu").write_text("1\tA\n")
    pairs.train.source = "train.conllu"
    assert message(pairs) == ("train.conllu:1: 2 columns, not 10 (CoNLL-U, by tabs): '1\\tA'")


# ---- tokenised text with a raw counterpart


def test_projection(pairs: DataConfig) -> None:
    for split in ("train", "dev", "test"):
        raw = (folder(pairs) / f"{split}.en").read_text()
        tokens = raw.lower().replace(".", " .").replace("'s", " &apos;s")
        (folder(pairs) / f"{split}.tok.en").write_text(tokens)
    for config in (pairs.train, pairs.dev, pairs.tests["test"]):
        config.raw, config.source = config.source, config.source.replace(".en", ".tok.en")
    corpus = run(pairs, HANTA, True)
    assert corpus.train.source[2].text == "the man &apos;s duck ran ."
    assert [(w.form, w.lemma, w.upos) for w in corpus.train.source[2].words[:4]] == [
        ("the", "the", "DET"),
        ("man", "man", "NOUN"),
        ("&apos;s", "'s", "PART"),
        ("duck", "duck", "NOUN"),
    ]
    assert corpus.notes[0] == (
        "train: annotation of train.en projected to 18 tokens; 0 tokens that match none of its "
        "characters have the values of the nearest token that does"
    )
    (folder(pairs) / "train.en").write_text("one\ntwo\n")
    assert message(pairs, HANTA, True) == (
        "data.train: train.tok.en has 4 sentences, train.en has 2; their lines must correspond"
    )
    assert run(pairs).train.source[0].text == "a dog sleeps ."  # not needed for words only
