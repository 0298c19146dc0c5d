import math
import multiprocessing
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from splits import encode

from nmt_feat.corpus import formats
from nmt_feat.corpus import prepare as module
from nmt_feat.corpus.columns import END
from nmt_feat.corpus.conllu import Sentence, Word, read_conllu, write_conllu
from nmt_feat.corpus.prepare import Prepared, fingerprint, prepare
from nmt_feat.corpus.store import Split
from nmt_feat.errors import UserError
from nmt_feat.schema import FeatureConfig, SplitConfig, TrainConfig

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
    text, found = "", []
    for word in words:
        text += " " * bool(text and word != ".")
        upos, lemma, feats, _ = LEXICON[word]
        end = len(text) + len(word)
        found.append(Word(word, len(text), end, lemma, upos, "_", feats, "dep", "ROOT", 0))
        text += word
    return Sentence(text, tuple(found))


def write(folder: Path, name: str, lines: list[str]) -> None:
    sentences = [sentence(line.split()) for line in lines]
    (folder / f"{name}.conllu").write_text(write_conllu(sentences), encoding="utf-8")
    (folder / f"{name}.en").write_text("".join(s.text + "\n" for s in sentences), encoding="utf-8")
    targets = [" ".join(LEXICON[word][3] for word in line.split()) for line in lines]
    (folder / f"{name}.de").write_text("".join(t + "\n" for t in targets), encoding="utf-8")


TRAIN = ["the dog sees the cats .", "Peter ducks .", "the cats sees Peter ."] * 6
DEV = ["Peter sees the dog .", "the dog ducks ."]


@pytest.fixture
def cfg(tmp_path: Path) -> TrainConfig:
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, "train", TRAIN)
    write(folder, "dev", DEV)
    write(folder, "test", DEV[:1])
    made = TrainConfig()
    made.data.name = "tiny"
    made.data.source_lang, made.data.target_lang = "en", "de"
    made.data.folder = str(folder)
    made.data.train = SplitConfig("train.conllu", "train.de")
    made.data.dev = SplitConfig("dev.conllu", "dev.de")
    made.data.tests = {"test": SplitConfig("test.conllu", "test.de")}
    made.subword.vocab_size = 40
    made.paths.cache = str(tmp_path / "cache")
    return made


def feature_ids(split: Split, name: str, i: int) -> list[int]:
    start, end = split.source.offsets[i : i + 2]
    return split.features[name][start:end].tolist()


def features(*columns: str, **settings: object) -> dict[str, FeatureConfig]:
    """Features named by their columns."""
    return {c.replace(".", "_"): FeatureConfig(column=c, **settings) for c in columns}


def test_prepared_corpus(cfg: TrainConfig) -> None:
    said: list[str] = []
    made = prepare(cfg, features("upos", "lemma", "subword_tag"), said.append)
    assert said == [
        "reading the corpus and its annotation",
        "training the subword model",
        "encoding",
    ]
    assert (len(made.train), len(made.dev), list(made.tests)) == (18, 2, ["test"])
    assert made.dev.source_texts == ["Peter sees the dog.", "the dog ducks."]
    assert made.dev.target_texts == ["Peter sieht die Hund .", "die Hund duckt ."]
    assert made.dev.feature_text("upos", 0) == "PROPN VERB DET NOUN PUNCT"
    for split in (made.train, made.dev, made.tests["test"]):
        for i in range(len(split)):
            source, target = split.source.row(i), split.target.row(i)
            assert made.encoder.subwords.decode(source) == split.source_texts[i]
            assert made.target.decode(target) == split.target_texts[i]
            assert source[-1] == target[-1] == 3
            assert feature_ids(split, "upos", i)[-1] == END
    # The store holds what the encoder gives for the same sentence, as in translation.
    for i, line in enumerate(DEV):
        encoded = encode(made.encoder, sentence(line.split()))
        assert made.dev.source.row(i).tolist() == encoded.ids
        for name, ids in encoded.features.items():
            assert feature_ids(made.dev, name, i) == ids
    assert made.notes == []


def test_every_format_gives_the_same_data(cfg: TrainConfig) -> None:
    """CoNLL-U, factors behind either separator, parallel files, JSON lines: bit for bit."""
    folder, factors = Path(str(cfg.data.folder)), ["feats", "upos", "lemma"]
    for split in ("train", "dev", "test"):
        path = folder / f"{split}.conllu"
        lines = [line for line in path.read_text().split("\n") if not line.startswith("# text")]
        path.write_text("\n".join(lines).replace("SpaceAfter=No", "_"))
        found, stem = list(read_conllu(path)), folder / split
        rows = {
            stem.with_suffix(".pipe"): formats.write_factored(found, "x", factors, "pipe"),
            stem.with_suffix(".ffe8"): formats.write_factored(found, "x", factors, "ffe8"),
            stem.with_suffix(".jsonl"): formats.write_jsonl(found),
        }
        columns = zip(*formats.write_parallel(found, "x", factors), strict=True)
        for name, column in zip(["words", *factors], columns, strict=True):
            rows[stem.with_suffix(f".{name}")] = iter(column)
        for path, content in rows.items():
            path.write_text("".join(f"{row}\n" for row in content))
    names = dict.fromkeys(("pipe", "ffe8", "jsonl", "conllu", "words"), cfg)
    chosen = features("upos", "lemma", "feats", "subword_tag")
    contents = []
    for suffix in names:
        given = deepcopy(cfg)
        given.data.factors = factors if suffix in formats.SEPARATORS else []
        given.data.format = suffix if suffix in formats.SEPARATORS else "auto"
        for split in (given.data.train, given.data.dev, given.data.tests["test"]):
            stem = split.source.removesuffix(".conllu")
            split.source = f"{stem}.{suffix}"
            if suffix == "words":
                split.factors = {name: f"{stem}.{name}" for name in factors}
        made = prepare(given, chosen)
        files = sorted(path for path in made.folder.iterdir() if path.name != "manifest.json")
        contents.append({path.name: path.read_bytes() for path in files})
    assert contents[0]["0.arrow"]
    assert all(content == contents[0] for content in contents)
    assert len({path.name for path in Path(cfg.paths.cache).glob("prepared-*/")}) == len(names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "pip"}, "data.format=pip: unknown; did you mean 'pipe'?"),
        (
            {"format": "ffe8"},
            "data.format=ffe8: name its factors, such as data.factors=[upos,lemma]",
        ),
        (
            {"factors": ["pos"]},
            "data.factors: unknown factor 'pos'; did you mean 'xpos' or 'upos'?",
        ),
        (
            {"train": SplitConfig("train.conllu", "train.de", factors={"upos": "x"})},
            "data: train.conllu has factors in files and an annotation in conllu; give one of them",
        ),
        (
            {"train": SplitConfig("train.en", "train.de", factors={"upos": "train.upos"})},
            "data.train.factors.upos=train.upos: no such file in FOLDER; correct the name or set "
            "data.folder",
        ),
        (
            {"train": SplitConfig("train.en", "train.de", factors={"upos": "train.de"})},
            "FOLDER/train.de:1: 6 values for the 5 tokens of FOLDER/train.en:1",
        ),
        (
            {"train": SplitConfig("factored", "train.de")},
            "FOLDER/factored: every token has a '|', as factored text has; set data.format=pipe "
            "and data.factors, or data.format=text if it is plain",
        ),
    ],
)
def test_formats_that_do_not_fit(cfg: TrainConfig, settings: dict[str, Any], message: str) -> None:
    folder = str(cfg.data.folder)
    (Path(folder) / "factored").write_text("the|DET dog|NOUN\n" * 18)
    for name, value in settings.items():
        setattr(cfg.data, name, value)
    with pytest.raises(UserError) as error:
        prepare(cfg, {} if "factored" in message.split(":")[0] else features("upos"))
    assert str(error.value).replace(folder, "FOLDER") == message


def test_second_time_comes_from_the_cache(cfg: TrainConfig) -> None:
    first = prepare(cfg, features("upos"))
    said: list[str] = []
    again = prepare(deepcopy(cfg), features("upos"), said.append)
    assert said == []
    assert again.folder == first.folder
    assert again.folder.name == f"prepared-{fingerprint(cfg, features('upos'))[:16]}"
    assert again.report == first.report
    assert again.encoder.features == first.encoder.features


def test_features_change_nothing_else(cfg: TrainConfig) -> None:
    plain, full = prepare(cfg, {}), prepare(cfg, features("upos"))
    assert plain.folder != full.folder
    for a, b in ((plain.train, full.train), (plain.dev, full.dev)):
        assert a.source.values.tolist() == b.source.values.tolist()
        assert a.target.values.tolist() == b.target.values.tolist()
        assert a.source_texts == b.source_texts
    assert plain.train.features == {}


def test_no_annotation_is_read_without_features(cfg: TrainConfig) -> None:
    cfg.data.train.source, cfg.data.train.conllu = "train.en", "broken.conllu"
    (Path(str(cfg.data.folder)) / "broken.conllu").write_text("1\tbroken\n", encoding="utf-8")
    assert len(prepare(cfg, {}).train) == 18
    assert len(prepare(cfg, features("subword_tag", "shape")).train) == 18


def test_order_of_features_means_nothing(cfg: TrainConfig) -> None:
    one = prepare(cfg, features("upos", "lemma"))
    two = prepare(cfg, features("lemma", "upos"))
    assert one.fingerprint == two.fingerprint
    assert list(two.encoder.features) == ["lemma", "upos"]


def change(cfg: TrainConfig, path: str, value: object) -> TrainConfig:
    cfg = deepcopy(cfg)
    *parents, last = path.split(".")
    node = cfg
    for name in parents:
        node = getattr(node, name)
    setattr(node, last, value)
    return cfg


@pytest.mark.parametrize(
    ("path", "value", "changes"),
    [
        ("subword.vocab_size", 41, True),
        ("subword.kind", "unigram", True),
        ("subword.joint", False, True),
        ("data.max_pieces", 17, True),
        ("data.max_ratio", 3.0, True),
        ("data.min_words", 2, True),
        ("data.limit", 5, True),
        ("seed", 2, False),
        ("model.dim", 64, False),
        ("data.name", "other", False),
        ("combiner.bias", 1.0, False),
    ],
)
def test_fingerprint(cfg: TrainConfig, path: str, value: object, changes: bool) -> None:
    chosen = features("upos")
    before = fingerprint(cfg, chosen)
    assert len(before) == 64
    assert (fingerprint(change(cfg, path, value), chosen) != before) == changes


def test_fingerprint_of_features_and_files(cfg: TrainConfig) -> None:
    before = fingerprint(cfg, features("upos"))
    assert fingerprint(cfg, features("upos", dim=8)) == before
    assert fingerprint(cfg, features("upos", policy="first")) != before
    assert fingerprint(cfg, features("upos", max_values=3)) != before
    write(Path(str(cfg.data.folder)), "train", TRAIN[1:])
    assert fingerprint(cfg, features("upos")) != before


def test_separate_subword_models(cfg: TrainConfig) -> None:
    cfg.subword.joint, cfg.subword.vocab_size = False, 30
    made = prepare(cfg, {})
    source, target = made.encoder.subwords, made.target
    assert (source.size, target.size) == (30, 30)
    text = made.dev.target_texts[0]
    assert target.encode_ids([text]) != source.encode_ids([text])


def test_filters_apply_to_train_only_and_are_counted(cfg: TrainConfig) -> None:
    folder = Path(str(cfg.data.folder))
    long = " ".join(["the dog sees"] * 20)
    write(folder, "train", [*TRAIN, "Peter .", long, "the dog ducks ."])
    write(folder, "dev", [*DEV, long])
    with (folder / "train.de").open("a", encoding="utf-8") as file:
        file.write("die Hund die Hund die Hund die Hund die Hund die\n")
    with (folder / "train.conllu").open("a", encoding="utf-8") as file:
        file.write(write_conllu([sentence(["Peter", "ducks"])]))
    cfg.subword.kind, cfg.subword.vocab_size = "none", 100
    cfg.data.min_words, cfg.data.max_pieces, cfg.data.max_ratio = 2, 40, 5.0
    made = prepare(cfg, features("upos"))
    assert made.report.train_read == 22
    assert made.report.filtered == {"words < 2": 1, "pieces > 40": 1, "ratio > 5": 1}
    assert len(made.train) == 19
    assert made.train.source_texts[-1] == "the dog ducks."
    assert made.train.feature_text("upos", 18) == "DET NOUN VERB PUNCT"
    assert len(made.dev) == 3
    cfg.data.max_pieces = 1
    with pytest.raises(UserError) as error:
        prepare(cfg, features("upos"))
    assert str(error.value) == (
        f"{folder / 'train.conllu'}: no training pair is left of 22 (21 pieces > 1, 1 words < 2); "
        "see data.min_words, data.max_pieces, data.max_ratio"
    )


def test_limit_holds_for_everything(cfg: TrainConfig) -> None:
    cfg.data.limit, cfg.subword.kind = 2, "none"
    made = prepare(cfg, features("upos"))
    assert made.report.train_read == len(made.train) == 2
    assert made.target.size == 4 + 12  # words of both sides of two pairs
    assert len(made.dev) == 2


def test_vocabulary_limits(cfg: TrainConfig) -> None:
    chosen = {
        "upos": FeatureConfig(column="upos", max_values=2),
        "lemma": FeatureConfig(column="lemma", policy="first"),
    }
    made = prepare(cfg, chosen)
    assert made.encoder.features["upos"].values == ["DET", "NOUN"]
    assert made.encoder.features["lemma"].values[0] == "<inside>"
    assert made.report.features["upos"]["kept"] == 2
    assert made.report.features["upos"]["values"] == 5


def test_report(cfg: TrainConfig) -> None:
    write(Path(str(cfg.data.folder)), "train", ["the dog", "the cats", "Peter ."])
    cfg.subword.kind = "none"
    report = prepare(cfg, features("upos")).report
    assert report.splits["train"] == {
        "sentences": 3,
        "source": {"words": 5, "pieces": 5, "unknown": 0.0},
        "target": {"words": 6, "pieces": 6, "unknown": 0.0},
    }
    assert report.splits["dev"]["source"] == {"words": 7, "pieces": 7, "unknown": 3 / 7}
    one, two = 1.5 / 8.5, 2.5 / 8.5  # p of a value seen once, twice; two verbs are new words
    words = [*[(1 + one) / 2] * 3, *[(2 + two) / 3] * 2, *[(1 + two) / 2] * 2, *[0.5 / 8.5] * 2]
    found = dict(report.features["upos"])
    assert 0 < found.pop("random_by_type") < math.log2(17)
    assert found == {
        "coverage": 1.0,
        "agreement": None,  # each word is one piece
        "values": 4,
        "kept": 4,
        "entropy": pytest.approx(2 * (1 / 3 * 1.5849625) + 2 * (1 / 6 * 2.5849625)),
        "given_word": pytest.approx(-sum(map(math.log2, words)) / 9),
        "unknown_dev": pytest.approx(2 / 9),
        "top": [["DET", 1 / 3], ["NOUN", 1 / 3], ["PROPN", 1 / 6], ["PUNCT", 1 / 6]],
    }
    console = Console(width=80, file=None)
    with console.capture() as capture:
        console.print(report)
    shown = " ".join(capture.get().split())
    assert "filtered of 3 training pairs: none" in shown
    assert "DET 33%, NOUN 33%, PROPN 17%, PUNCT 17%" in shown


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            features("deprel"),
            "features.deprel is constant: deprel is 'dep' on all of train (annotation: {train}); "
            "leave it out of features",
        ),
        (
            features("xpos"),
            "features.xpos: no word of train has xpos (annotation: {train}); leave it out of "
            "features or choose another annotation",
        ),
        (
            features("feats.Nmber"),
            "features.feats_Nmber: no word of train has feats.Nmber (annotation: {train}); "
            "leave it out of features or choose another annotation",
        ),
        (
            features("upos", min_count=1000),
            "features.upos is constant: max_values=None and min_count=1000 keep 0 of its 5 values; "
            "relax them",
        ),
        (
            features("upsos"),
            "features.upsos.column=upsos: unknown column; did you mean 'upos' or 'xpos'?",
        ),
    ],
)
def test_useless_features_are_refused(
    cfg: TrainConfig, chosen: dict[str, FeatureConfig], message: str
) -> None:
    with pytest.raises(UserError) as error:
        prepare(cfg, chosen)
    train = Path(str(cfg.data.folder)) / "train.conllu"
    assert str(error.value) == message.format(train=train)
    assert not list(Path(cfg.paths.cache).glob("prepared-*[!k]/manifest.json"))


@pytest.mark.parametrize("damage", ["change", "truncate", "remove", "manifest", "version"])
def test_damaged_cache_is_made_again(cfg: TrainConfig, damage: str) -> None:
    first = prepare(cfg, features("upos"))
    ids = first.train.source.values.tolist()
    of_manifest = damage in ("manifest", "version")
    path = first.folder / ("manifest.json" if of_manifest else "0.arrow")
    content = path.read_bytes()
    del first
    if damage == "change":
        path.write_bytes(content[:-400] + bytes([content[-400] ^ 1]) + content[-399:])
    elif damage == "remove":
        path.unlink()
    elif damage == "version":
        path.write_bytes(content.replace(b'"report": ', b'"report": 1'))
    else:
        path.write_bytes(content[: len(content) // 2])
    again = prepare(cfg, features("upos"))
    assert again.train.source.values.tolist() == ids
    (note,) = again.notes
    if damage == "version":
        assert note == f"{again.folder}: its report is of another version, made again"
    else:
        assert note.startswith(f"{again.folder}: damaged (")
        assert note.endswith("), made again")
    if damage == "change":
        assert "0.arrow has changed" in note
    assert prepare(cfg, features("upos")).notes == []


def test_an_interrupted_preparation_leaves_nothing(
    cfg: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "describe_split", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(cfg, features("upos"))
    assert len(prepare(cfg, features("upos")).train) == 18
    assert [p.name for p in Path(cfg.paths.cache).iterdir() if "building" in p.name] == []


def _work(cfg: TrainConfig, queue: multiprocessing.Queue) -> None:
    said: list[str] = []
    made: Prepared = prepare(cfg, features("upos", "lemma"), said.append)
    queue.put(("encoding" in said, made.notes, made.train.source.values.tolist()))


@pytest.mark.slow
def test_processes_that_start_at_once(cfg: TrainConfig) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_work, args=(cfg, queue)) for _ in range(4)]
    for worker in workers:
        worker.start()
    results = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(timeout=60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert sorted(made for made, _, _ in results) == [False, False, False, True]
    assert all(notes == [] for _, notes, _ in results)
    assert len({tuple(ids) for _, _, ids in results}) == 1
