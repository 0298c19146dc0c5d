"""spaCy, with a pipeline that is trained here: values, spans, what is refused."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nmt_feat.annotators.files import write_annotation
from nmt_feat.annotators.spacy import SpaCy
from nmt_feat.annotators.texts import make_annotator
from nmt_feat.config.data_schema import AnnotatorConfig
from nmt_feat.errors import UserError
from nmt_feat.text.conllu import read_conllu
from tests.support.applied import said
from tests.support.entry import call
from tests.support.mistakes import line
from tests.support.small import Small

spacy = pytest.importorskip("spacy")
TEXTS = [
    "The fathers  lost a key.\tHe saw her duck.",
    "I don't know 😀 her_dog\u00a0… \u3000x",
    "",
    "  \t ",
    "  They stood up.",
    "1-2\t_ # text = a\u2028b",
]


@pytest.fixture(scope="module")
def small_spacy(spacy_folder: Path) -> SpaCy:
    return SpaCy(str(spacy_folder))


@pytest.mark.thorough
def test_values_are_the_pipelines(small_spacy: SpaCy, spacy_folder: Path) -> None:
    """Each token but white space is a word, with spaCy's own values and its place in the text."""
    nlp = spacy.load(spacy_folder)
    heads = set()
    for sentence in small_spacy.annotate(TEXTS):
        tokens = [t for t in nlp(sentence.text) if not t.is_space]
        assert [(w.form, w.start) for w in sentence.words] == [(t.text, t.idx) for t in tokens]
        assert all(sentence.text[w.start : w.end] == w.form for w in sentence.words)
        for word, token in zip(sentence.words, tokens, strict=True):
            assert (word.upos, word.xpos, word.deprel) == (token.pos_, token.tag_, token.dep_)
            assert (word.lemma, word.feats) == (token.lemma_, str(token.morph) or "_")
            if token.head == token:
                assert (word.head, word.head_upos) == (0, "ROOT")
            elif not token.head.is_space:
                assert tokens[word.head - 1] == token.head
                assert word.head_upos == token.head.pos_
            heads.add(word.head)
    assert len(heads) > 4
    assert {"NOUN", "VERB"} <= {w.upos for s in small_spacy.annotate(TEXTS) for w in s.words}


def test_lines_come_back_in_order(small_spacy: SpaCy) -> None:
    assert [s.text for s in small_spacy.annotate(TEXTS)] == TEXTS
    assert small_spacy.annotate(TEXTS)[2].words == small_spacy.annotate(TEXTS)[3].words == ()


def test_a_head_that_is_white_space_passes_on_its_own(small_spacy: SpaCy) -> None:
    """Its words hang on what it hangs on; where it is the root, they are roots."""
    from spacy.tokens import Doc

    annotator = pickle.loads(pickle.dumps(small_spacy))

    class Given:
        def __init__(self, heads: list[int]) -> None:
            self.heads = heads

        def pipe(self, texts: list[str]) -> Iterator[Doc]:
            pos, deps = ["NOUN", "SPACE", "VERB"], ["a", "b", "c"]
            words, spaces = ["x", " ", "y"], [True, False, False]
            vocab = spacy.blank("en").vocab
            return iter([Doc(vocab, words, spaces, heads=self.heads, deps=deps, pos=pos)])

    for heads, expected in (
        ([1, 2, 2], [(2, "VERB"), (0, "ROOT")]),
        ([1, 1, 0], [(0, "ROOT"), (1, "NOUN")]),
    ):
        annotator._tagger = Given(heads)
        (sentence,) = annotator.annotate(["x  y"])
        assert [(w.head, w.head_upos) for w in sentence.words] == expected


def test_what_the_pipeline_lacks_is_not_given(spacy_folder: Path) -> None:
    tagger = SpaCy(str(spacy_folder), exclude=["parser", "trainable_lemmatizer"])
    (sentence,) = tagger.annotate(["The dog sleeps."])
    word = sentence.words[1]
    assert word.upos != "_"
    assert (word.lemma, word.deprel, word.head, word.head_upos) == ("_", "_", -1, "_")


@pytest.mark.slow
def test_processes_never_change_the_result(small_spacy: SpaCy, tmp_path: Path) -> None:
    texts = [f"They saw her duck number {i} ." for i in range(401)]
    one, two = tmp_path / "one.conllu", tmp_path / "two.conllu"
    write_annotation(small_spacy, texts, one, 1)
    write_annotation(small_spacy, texts, two, 2)
    assert one.read_bytes() == two.read_bytes()
    assert [s.text for s in read_conllu(one)] == texts
    assert len(pickle.dumps(small_spacy)) < 20_000


def test_fingerprint(spacy_folder: Path, tmp_path: Path) -> None:
    """That of versions, content and settings, not of the place."""
    copy = tmp_path / "copy"
    shutil.copytree(spacy_folder, copy)
    result = SpaCy(str(spacy_folder)).fingerprint()
    assert f"spacy={spacy.__version__} " in result
    assert SpaCy(str(copy)).fingerprint() == result
    assert SpaCy(str(copy), exclude=["parser"]).fingerprint() != result
    weights = copy / "tagger" / "model"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    assert SpaCy(str(copy)).fingerprint() != result


@pytest.fixture
def installed(spacy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the pipeline as a package, as pip would install it."""
    from spacy.cli.package import package

    out = tmp_path / "out"
    out.mkdir()
    options = {"name": "smaller", "create_sdist": False, "create_wheel": False, "silent": True}
    package(spacy_folder, out, **options)
    (output_file,) = out.iterdir()
    site = tmp_path / "site"
    shutil.copytree(output_file / "en_smaller", site / "en_smaller")
    shutil.copy(output_file / "meta.json", site / "en_smaller")
    info = site / "en_smaller-0.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: en_smaller\nVersion: 0.0.0\n")
    (info / "entry_points.txt").write_text("[spacy_models]\nen_smaller = en_smaller\n")
    monkeypatch.syspath_prepend(site)
    yield "en_smaller"
    sys.modules.pop("en_smaller", None)


def test_installed_pipeline(installed: str, small_spacy: SpaCy) -> None:
    result = SpaCy(installed)
    assert result.annotate(TEXTS) == small_spacy.annotate(TEXTS)
    with pytest.raises(UserError) as error:
        SpaCy("en_smalller")
    assert str(error.value) == (
        "annotator.model=en_smalller: no folder, and no pipeline of that name is installed; "
        "did you mean 'en_smaller'?"
    )


# ---- what is refused


CONFIG = "nmt_feat.annotators.SpaCy"


def refused(config: AnnotatorConfig) -> str:
    try:
        annotator = make_annotator(config)
        assert annotator
        annotator.annotate(["a"])
    except UserError as error:
        return str(error)
    raise AssertionError("nothing was refused")


def test_broken_pipelines(spacy_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(spacy_folder, copy)
    where = f"annotator.model={copy}: "
    config = AnnotatorConfig(CONFIG, str(copy))
    meta = (copy / "meta.json").read_text()
    (copy / "meta.json").write_text(meta[:50])
    assert re.fullmatch(
        re.escape(where) + r"broken meta\.json \(.*\); get the pipeline again", refused(config)
    )
    (copy / "meta.json").write_text(meta)
    (copy / "tagger" / "model").unlink()
    outcome = refused(config)
    assert outcome.startswith(f"{where}spaCy cannot load it: ")
    assert "tagger/model" in outcome
    assert "\n" not in outcome
    (copy / "config.cfg").unlink()
    assert refused(config) == f"{where}not a pipeline of spaCy, it has no config.cfg"
    (copy / "meta.json").unlink()
    lacks = "it has no meta.json and no config.cfg"
    assert refused(config) == f"{where}not a pipeline of spaCy, {lacks}"


def test_component_that_is_not_there(spacy_folder: Path) -> None:
    config = AnnotatorConfig(CONFIG, str(spacy_folder), args={"exclude": ["parsr"]})
    assert refused(config) == (
        f"annotator.args.exclude: {spacy_folder} has no component 'parsr'; did you mean 'parser'?"
    )
    config = AnnotatorConfig(CONFIG, str(spacy_folder), args={"exclude": "parsr"})
    assert refused(config).endswith("did you mean 'parser'?")


@pytest.fixture
def plain(corpus: Path, tmp_path: Path) -> list[str]:
    """Settings of the corpus as plain text, annotated by spaCy."""
    out = ["data=files", "data.source_lang=en", "data.target_lang=de", "annotator.processes=1"]
    for split, key in (("train", "train"), ("dev", "dev"), ("test", "tests.test")):
        texts = [s.text for s in read_conllu(corpus / f"{split}.conllu")]
        path = tmp_path / f"{split}.en"
        path.write_text("\n".join([*texts, ""]), encoding="utf-8")
        out += [f"data.{key}.source={path}", f"data.{key}.target={split}.de"]
    return [*out, "annotator=spacy", "combiner=add", "features=[upos]"]


def test_tokens_that_are_not_in_the_text(small: Small, plain: list[str]) -> None:
    """A tokeniser that changes characters cannot be aligned."""
    from spacy.tokens import Doc

    class Lower:
        def __init__(self, nlp: spacy.Language) -> None:  # type: ignore[name-defined]
            self.vocab = nlp.vocab

        def __call__(self, text: str) -> Doc:
            return Doc(self.vocab, text.lower().split())

        def to_disk(self, path: Path, **arguments: object) -> None:
            """It has nothing to write."""

        from_disk = to_disk

    spacy.registry.tokenizers("nmt_feat_test.lower.v1", func=lambda: Lower)
    tokenizer = {"@tokenizers": "nmt_feat_test.lower.v1"}
    nlp = spacy.blank("en", config={"nlp": {"tokenizer": tokenizer}})
    nlp.to_disk(small.folder / "lower")
    model = f"annotator.model={small.folder / 'lower'}"
    texts = Path(plain[4].partition("=")[2]).read_text(encoding="utf-8").split("\n")
    outcome = line(call("train", *small.overrides(*plain, model)), small)
    first = texts[0].split()[0].lower()
    assert outcome == (
        f"annotator=spacy: the annotation does not fit the text {texts[0]!r}: {first!r} is not at "
        f"character 0 ({texts[0][:20]!r} ...); annotate this very text"
    )


@pytest.mark.thorough
def test_feature_that_the_pipeline_lacks(
    small: Small, plain: list[str], spacy_folder: Path
) -> None:
    settings = [*plain[:-1], "features=[upos,deprel]", f"annotator.model={spacy_folder}"]
    settings += ["+annotator.args.exclude=[parser]"]
    assert line(call("train", *small.overrides(*settings)), small) == (
        "features.deprel: no word of train has deprel (annotation: SpaCy); leave it out of "
        "features or choose another annotation"
    )


@pytest.mark.thorough
def test_an_installed_pipeline_stays_where_it_is(
    small: Small, plain: list[str], installed: str
) -> None:
    """The run has its name, and what it was."""
    few = ("trainer.max_steps=2", "trainer.validate_every=2", f"annotator.model={installed}")
    run = small.train(*plain, *few)
    assert [path.name for path in (run / "annotator").iterdir()] == ["FINGERPRINT"]
    done = call("translate", f"run={run}", f"input={small.folder / 'test.en'}")
    assert (said(done), done.code) == ("", 0)
    assert done.out == (run / "test.hyp").read_text(encoding="utf-8")


@pytest.mark.thorough
def test_the_run_keeps_the_pipeline(small: Small, plain: list[str], spacy_folder: Path) -> None:
    """Its files are copied and summed: without the folder the run translates."""
    model_folder = small.folder / "own"
    shutil.copytree(spacy_folder, model_folder)
    few = ("trainer.max_steps=2", "trainer.validate_every=2", f"annotator.model={model_folder}")
    run = small.train(*plain, *few)
    shutil.rmtree(model_folder)
    text = small.folder / "test.en"
    done = call("translate", f"run={run}", f"input={text}")
    assert (said(done), done.code) == ("", 0)
    assert done.out == (run / "test.hyp").read_text(encoding="utf-8")
    meta_file = run / "annotator" / "own" / "meta.json"
    meta_file.write_text(json.dumps(json.loads(meta_file.read_text()) | {"version": "2"}))
    assert line(call("translate", f"run={run}", f"input={text}"), small) == (
        f"HERE/runs/{run.name}/annotator/own/meta.json: damaged, its SHA-256 is not the one in "
        "SHA256SUMS; get the run's folder again, or train again"
    )
