import dataclasses
import gzip
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from nmt_feat.corpus import text
from nmt_feat.corpus.conllu import Sentence, write_conllu
from nmt_feat.corpus.datasets import load as load_tables
from nmt_feat.corpus.datasets import locate
from nmt_feat.corpus.pool import Pool
from nmt_feat.corpus.sentences import ANNOTATION
from nmt_feat.errors import UserError
from nmt_feat.resources import resource
from nmt_feat.schema import AnnotatorConfig, DataConfig, SplitConfig

HANTA = AnnotatorConfig("nmt_feat.corpus.annotators.HanTa", processes=1, args={"language": "en"})
NONE = AnnotatorConfig()


def shipped(name: str, **values: Any) -> DataConfig:
    """The config that `data=name` gives."""
    if not OmegaConf.has_resolver("nmt_resource"):
        OmegaConf.register_new_resolver("nmt_resource", lambda n: str(resource(n)))
    file = OmegaConf.load(resource(f"conf/data/{name}.yaml"))
    data = OmegaConf.merge(OmegaConf.structured(DataConfig), file, values)
    return OmegaConf.to_object(OmegaConf.create({"data": data}).data)  # type: ignore[return-value]


@pytest.fixture
def small(tmp_path: Path) -> DataConfig:
    """Four pairs of training text, two of dev, one of test, in the folder `data`."""
    folder = tmp_path / "data"
    folder.mkdir()
    english = ["A dog sleeps.", "Two cats see it.", "The man's duck ran.", "I go."]
    german = ["Ein Hund schläft.", "Zwei Katzen sehen ihn.", "Die Ente lief.", "Ich gehe."]
    for name, count in (("train", 4), ("dev", 2), ("test", 1)):
        (folder / f"{name}.en").write_text("\n".join(english[:count]) + "\n")
        (folder / f"{name}.de").write_text("\n".join(german[:count]) + "\n")
    return DataConfig(
        name="small",
        source_lang="en",
        target_lang="de",
        folder=str(folder),
        train=SplitConfig("train.en", "train.de"),
        dev=SplitConfig("dev.en", "dev.de"),
        tests={"test": SplitConfig("test.en", "test.de")},
    )


def folder(config: DataConfig) -> Path:
    return Path(str(config.folder))


@dataclasses.dataclass
class Pairs:
    """A split, read into memory."""

    source: list[Sentence]
    target: list[str]


@dataclasses.dataclass
class Corpus:
    """A corpus, read into memory."""

    train: Pairs
    dev: Pairs
    tests: dict[str, Pairs]
    fingerprint: str
    notes: list[str]


def load(
    config: DataConfig, annotator: AnnotatorConfig, cache: Path, annotate: bool, processes: int = 1
) -> Corpus:
    columns = ANNOTATION if annotate else ()
    raw = locate(config, annotator, cache, annotate)
    with tempfile.TemporaryDirectory() as work, Pool(processes, "reading", "") as pool:
        load_tables(raw, config, annotator, cache, columns, Path(work), pool)
        splits = {
            split.name: Pairs(
                list(split.source.rows(0, len(split.source))), list(split.target.texts)
            )
            for split in raw.splits
        }
    return Corpus(splits.pop("train"), splits.pop("dev"), splits, raw.fingerprint, raw.notes)


def run(config: DataConfig, annotator: AnnotatorConfig = NONE, annotate: bool = False) -> Corpus:
    return load(config, annotator, folder(config).parent / "cache", annotate)


def fingerprint(config: DataConfig, annotator: AnnotatorConfig, cache: Path, annotate: bool) -> str:
    return locate(config, annotator, cache, annotate).fingerprint


def message(config: DataConfig, annotator: AnnotatorConfig = NONE, annotate: bool = False) -> str:
    """The error that loading ends in, with the folder's name left out."""
    with pytest.raises(UserError) as error:
        run(config, annotator, annotate)
    assert "\n" not in str(error.value)
    return str(error.value).replace(f"{folder(config)}/", "")


# ---- reading


def test_words_only(small: DataConfig) -> None:
    corpus = run(small)
    assert corpus.train.source[1] == Sentence("Two cats see it.", ())
    assert corpus.train.target[1] == "Zwei Katzen sehen ihn."
    assert [len(s.target) for s in (corpus.train, corpus.dev, corpus.tests["test"])] == [4, 2, 1]
    assert corpus.notes == []
    assert not (folder(small).parent / "cache").exists()


def test_limit_is_of_training(small: DataConfig) -> None:
    limited = run(dataclasses.replace(small, limit=1))
    assert [len(s.target) for s in (limited.train, limited.dev)] == [1, 2]
    assert limited.fingerprint != run(small).fingerprint


def test_annotated(small: DataConfig) -> None:
    corpus = run(small, HANTA, True)
    assert [w.upos for w in corpus.train.source[2].words][:3] == ["DET", "NOUN", "PART"]
    assert len(list((folder(small).parent / "cache").glob("*.conllu"))) == 3
    assert run(small, HANTA, True) == corpus


def test_gz_and_windows_lines_and_bom_are_the_same_text(small: DataConfig) -> None:
    before = run(small)
    for path in folder(small).iterdir():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    zipped = run(small)
    assert zipped.fingerprint == before.fingerprint  # the content's
    assert zipped.train.source == before.train.source
    path = folder(small) / "train.en"
    lines = "\r\n".join(s.text for s in before.train.source)
    path.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert run(small).train.source == before.train.source


def test_the_same_bytes_as_json_are_other_data(small: DataConfig) -> None:
    other = dataclasses.replace(small, format="jsonl")
    cache = folder(small).parent / "cache"
    assert fingerprint(small, NONE, cache, False) != fingerprint(other, NONE, cache, False)


def test_lines_end_at_newline_only(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("a\u2028b\x85c\x0cd\n\ne", newline="")
    assert text.read_lines(path) == ["a\u2028b\x85c\x0cd", "", "e"]


def test_fingerprint_needs_no_annotation(small: DataConfig) -> None:
    cache = folder(small).parent / "cache"
    known = {
        fingerprint(small, NONE, cache, False),
        fingerprint(small, HANTA, cache, True),
        fingerprint(small, dataclasses.replace(HANTA, args={"language": "de"}), cache, True),
    }
    assert len(known) == 3
    assert not cache.exists()
    assert run(small, HANTA, True).fingerprint == fingerprint(small, HANTA, cache, True)
    (folder(small) / "dev.de").write_text("Etwas\nanderes\n")
    assert fingerprint(small, HANTA, cache, True) not in known
    processes = dataclasses.replace(HANTA, processes=7)
    assert fingerprint(small, HANTA, cache, True) == fingerprint(small, processes, cache, True)


def test_source_in_conllu(small: DataConfig) -> None:
    annotated = run(small, HANTA, True)
    (folder(small) / "train.conllu").write_text(write_conllu(annotated.train.source))
    (folder(small) / "spaced.conllu").write_text(
        write_conllu(annotated.dev.source).replace("# text = ", "# text =  ")
    )
    small.train.source = "train.conllu"
    small.dev.conllu = "spaced.conllu"
    small.tests = {}
    corpus = run(small, annotate=True)
    assert corpus.train.source == annotated.train.source
    assert corpus.dev.source == annotated.dev.source  # spans in the text of dev.en
    assert run(small).train.source[0] == Sentence("A dog sleeps.", ())
    again = run(small, HANTA, True)
    assert again.train.source == annotated.train.source
    assert again.notes == [
        "train: annotated by hanta; the annotation in train.conllu is unused",
        "dev: annotated by hanta; the annotation in spaced.conllu is unused",
    ]


def test_factors_beside_a_text_with_other_spaces(small: DataConfig) -> None:
    """The text is the same with features and without."""
    lines = ["A  dog sleeps.", "Two cats\u2003see it. "]
    for name, split, count in (("train", small.train, 2), ("dev", small.dev, 1)):
        tags = ["X X X", "X X X X"]
        for suffix, rows in (("en", lines), ("upos", tags), ("de", ["Ja.", "Ja."])):
            (folder(small) / f"{name}.{suffix}").write_text("\n".join(rows[:count]))
        split.factors = {"upos": f"{name}.upos"}
    small.tests = {}
    annotated, plain = run(small, annotate=True), run(small)
    for split, other in ((annotated.train, plain.train), (annotated.dev, plain.dev)):
        assert [s.text for s in split.source] == [s.text for s in other.source]
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
    "empty target side": (
        change("dev.de", "Ein Hund\n \t\n"),
        "dev.de:2: empty side of the pair 'Two cats see it.' and ' \\t'; "
        "remove the line from every file",
    ),
    "empty source side": (
        change("train.en", "\nb\nc\nd\n"),
        "train.en:1: empty side of the pair '' and 'Ein Hund schläft.'; "
        "remove the line from every file",
    ),
}


@pytest.mark.parametrize(("spoil", "expected"), BAD.values(), ids=BAD.keys())
def test_bad_files(small: DataConfig, spoil: Any, expected: str) -> None:
    spoil(small)
    assert message(small).replace(f"{small.folder}", "FOLDER") == expected


def test_no_folder(small: DataConfig) -> None:
    small.folder = "no/such"
    assert message(small) == "data.folder=no/such: no such folder"


def test_test_set_named_as_another_split(small: DataConfig) -> None:
    small.tests = {"dev": small.dev}
    assert message(small) == "data.tests.dev: the name is taken; give the test set another"


def test_features_without_annotation(small: DataConfig) -> None:
    assert message(small, annotate=True) == (
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
def test_annotation_of_another_text(small: DataConfig, lines: list[str], expected: str) -> None:
    corpus = run(small, HANTA, True)
    (folder(small) / "train.conllu").write_text(write_conllu(corpus.train.source))
    rows = "".join(
        f"# text = {line}\n"
        + "".join(f"{i}\t{w}\t_\tX\t_\t_\t0\troot\t_\t_\n" for i, w in enumerate(line.split(), 1))
        + "\n"
        for line in lines
    )
    (folder(small) / "dev.conllu").write_text(rows)
    small.train.conllu, small.dev.conllu, small.tests = "train.conllu", "dev.conllu", {}
    assert message(small, annotate=True) == expected


def test_broken_conllu_names_file_and_line(small: DataConfig) -> None:
    (folder(small) / "train.conllu").write_text("1\tA\n")
    small.train.source = "train.conllu"
    assert message(small) == ("train.conllu:1: 2 columns, not 10 (CoNLL-U, by tabs): '1\\tA'")


# ---- tokenised text with a raw counterpart


def test_projection(small: DataConfig) -> None:
    for split in ("train", "dev", "test"):
        raw = (folder(small) / f"{split}.en").read_text()
        tokens = raw.lower().replace(".", " .").replace("'s", " &apos;s")
        (folder(small) / f"{split}.tok.en").write_text(tokens)
    for config in (small.train, small.dev, small.tests["test"]):
        config.raw, config.source = config.source, config.source.replace(".en", ".tok.en")
    corpus = run(small, HANTA, True)
    assert corpus.train.source[2].text == "the man &apos;s duck ran ."
    assert [(w.form, w.lemma, w.upos) for w in corpus.train.source[2].words[:4]] == [
        ("the", "the", "DET"),
        ("man", "man", "NOUN"),
        ("&apos;s", "'s", "PART"),
        ("duck", "duck", "NOUN"),
    ]
    assert corpus.notes[0] == (
        "train: annotation of train.en projected to 18 tokens; 0 that match no character of it "
        "have the values of the nearest that does"
    )
    (folder(small) / "train.en").write_text("one\ntwo\n")
    assert message(small, HANTA, True) == (
        "data.train: train.tok.en has 4 sentences, train.en has 2; their lines must correspond"
    )
    assert run(small).train.source[0].text == "a dog sleeps ."  # not needed for words only


# ---- shipped configs and public files


def test_embedded(tmp_path: Path) -> None:
    corpus = load(shipped("embedded"), NONE, tmp_path, True)
    assert len(corpus.train.source) == len(corpus.train.target) > 1000
    assert all(s.words for s in corpus.dev.source)
    assert list(corpus.tests) == ["test"]


@pytest.mark.parametrize("pair", [("en", "de"), ("de", "en"), ("en", "fr"), ("en", "cs")])
def test_multi30k_pins_every_file_that_it_needs(pair: tuple[str, str]) -> None:
    config = shipped("multi30k", source_lang=pair[0], target_lang=pair[1])
    needed = [s for s in (config.train, config.dev, *config.tests.values()) if not s.optional]
    assert len(needed) == 3
    names = {name for s in needed for name in (s.source, s.target)}
    assert names <= config.download.sha256.keys()
    assert all(len(s) == 64 for s in config.download.sha256.values())
    assert "a3d2e0d26b56f3846f66a952536ffed4e401d05a" in str(config.download.url)


@pytest.mark.parametrize("pair", [("en", "de"), ("de", "en")])
def test_multi30k_tok_pins_every_file_that_it_needs(pair: tuple[str, str]) -> None:
    config = shipped("multi30k_tok", source_lang=pair[0], target_lang=pair[1])
    needed = [s for s in (config.train, config.dev, *config.tests.values()) if not s.optional]
    names = {name for s in needed for name in (s.source, s.target, s.raw)}
    assert names <= config.download.sha256.keys()
    assert config.tokenized


def public(small: DataConfig, tmp_path: Path) -> dict[str, bytes]:
    """Make `small` public: its files at a URL, with sums, gzipped; an optional test without."""
    public = tmp_path / "public"
    public.mkdir()
    contents = {}
    for path in sorted(folder(small).iterdir()):
        contents[f"{path.name}.gz"] = gzip.compress(path.read_bytes(), mtime=0)
        (public / f"{path.name}.gz").write_bytes(contents[f"{path.name}.gz"])
    for split in (small.train, small.dev, small.tests["test"]):
        split.source, split.target = f"{split.source}.gz", f"{split.target}.gz"
    small.download.url = public.as_uri()
    small.download.sha256 = {n: hashlib.sha256(c).hexdigest() for n, c in contents.items()}
    small.tests["extra"] = SplitConfig("extra.en", "extra.de", optional=True)
    return contents


def test_download_into_the_cache(small: DataConfig, tmp_path: Path) -> None:
    contents = public(small, tmp_path)
    small.folder = None
    corpus = load(small, NONE, tmp_path / "cache", False)
    assert len(corpus.train.source) == 4
    for name, content in contents.items():
        assert (tmp_path / "cache" / "small" / name).read_bytes() == content
    assert corpus.notes == [
        "test set extra is left out: data.tests.extra.source=extra.en: no such file in "
        f"{tmp_path}/cache/small; correct the name or set data.folder"
    ]
    (tmp_path / "cache" / "small" / "dev.de.gz").write_bytes(b"damaged")
    assert load(small, NONE, tmp_path / "cache", False) == corpus


def test_a_folder_comes_before_the_download(small: DataConfig, tmp_path: Path) -> None:
    public(small, tmp_path)
    own = folder(small)
    (own / "dev.de").write_text("Mein\neigenes\n")  # dev.de for dev.de.gz
    (own / "test.de.gz").write_bytes(gzip.compress(b"Anderes\n"))
    corpus = load(small, NONE, tmp_path / "cache", False)
    assert corpus.dev.target == ["Mein", "eigenes"]
    assert corpus.tests["test"].target == ["Anderes"]
    assert not (tmp_path / "cache").exists()


def test_only_public_files_are_found_without_their_folders(
    small: DataConfig, tmp_path: Path
) -> None:
    small.dev.target = "new/dev.de"
    assert message(small) == (
        f"data.dev.target=new/dev.de: no such file in {small.folder}; correct the name or set "
        "data.folder"
    )
    small.download.url = tmp_path.as_uri()
    assert message(small).startswith("data.dev.target=new/dev.de: no such file in ")
    small.download.sha256["new/dev.de"] = "0" * 64
    assert run(small).dev.target == ["Ein Hund schläft.", "Zwei Katzen sehen ihn."]


def test_file_without_sum_is_not_downloaded(small: DataConfig, tmp_path: Path) -> None:
    public(small, tmp_path)
    del small.download.sha256["dev.de.gz"]
    (folder(small) / "dev.de").unlink()
    assert message(small) == (
        f"data.dev.target=dev.de.gz: no such file in {small.folder}; correct the name or set "
        "data.folder"
    )


def test_all_tests_missing(small: DataConfig) -> None:
    small.tests = {"extra": SplitConfig("extra.en", "extra.de", optional=True)}
    assert message(small) == (
        "data=small: no test set was found (test set extra is left out: "
        f"data.tests.extra.source=extra.en: no such file in {small.folder}; correct the name or "
        "set data.folder)"
    )


@pytest.mark.data
@pytest.mark.parametrize("name", ["multi30k", "multi30k_tok"])
@pytest.mark.parametrize("pair", [("en", "de"), ("de", "en"), ("en", "fr"), ("en", "cs")])
def test_multi30k(name: str, pair: tuple[str, str], tmp_path: Path) -> None:
    data = os.environ.get("NMT_FEAT_DATA")
    if not data:
        pytest.skip("NMT_FEAT_DATA is not set")
    if name == "multi30k_tok" and pair[1] in ("fr", "cs"):
        pytest.skip("the folder has no tokenised French and Czech")
    config = shipped(name, source_lang=pair[0], target_lang=pair[1], folder=f"{data}/multi30k")
    corpus = load(config, NONE, tmp_path, False)
    sizes = [len(s.target) for s in (corpus.train, corpus.dev, corpus.tests["test2016"])]
    assert sizes == [29000, 1014, 1000]
    assert [n.split(":")[0] for n in corpus.notes] == [
        "test set test2017 is left out",
        "test set mscoco is left out",
    ]
