"""Terms in training, tests and translation; what they leave unchanged; their scores."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from nmt_feat.api import load_run
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.data.alignment import SourceEncoder
from nmt_feat.data.controls import prepare_run
from nmt_feat.data.identity import hash_data
from nmt_feat.data.prepare import Prepared
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kind
from nmt_feat.features.vocabulary import INSIDE, FeatureVocab
from nmt_feat.runs.advice import advise_on_run
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import Sentence, parse_conllu, read_conllu
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.subwords import Words
from nmt_feat.text.term_insertion import KEY, Insertion
from nmt_feat.text.word_values import MISSING, read_column, whitespace_words
from tests.support.entry import call
from tests.support.small import Small, record
from tests.support.terms import FACTOR, PLAIN, TAGS, write_corpus, write_small


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return write_small(tmp_path_factory.mktemp("terms"))


@pytest.fixture(scope="module")
def factored(small: Small) -> Path:
    """A run with the factor; tests that write copy it."""
    return small.train(*FACTOR)


def prepare(small: Small, *more: str) -> Prepared:
    return prepare_run(resolve_settings(small.config(*more), False, Console(quiet=True)))


@pytest.mark.thorough
def test_terms_of_training_are_those_of_the_target(small: Small) -> None:
    prepared = prepare(small, *FACTOR)
    sources, originals = list(prepared.train.texts("source")), prepared.train.source_texts
    targets = prepared.train.target_texts
    assert originals == (small.corpus / "train.en").read_text("utf-8").splitlines()
    changed = [i for i, (a, b) in enumerate(zip(sources, originals, strict=True)) if a != b]
    assert changed
    for i in changed:
        inserted = set(sources[i].replace(".", "").split()) - set(
            originals[i].replace(".", "").split()
        )
        assert inserted <= {"Frau", "Frauen", "Lehrer", "alter", "Mann"}, sources[i]
        assert all(word in targets[i] for word in inserted)
    # At a test any term counts: its reference decides nothing.
    assert set(prepared.tests["test"].texts("source")) == {"The king Kaiser saw the women Frauen."}
    values = prepared.tests["test"].feature_text("term", 0)
    assert values == "0 1 2 0 0 1 2 0"
    ids = prepared.encoder.features["term"].values
    assert sorted(ids) == ["0", "1", "2"]
    assert INSIDE not in ids
    assert any("terms are written into" in note for note in prepared.notes)


def test_no_advice_against_marks(small: Small) -> None:
    """They have few bits, as few words are terms; of other features that is a reason."""
    cfg, report = small.config(*FACTOR), prepare(small, *FACTOR).report
    report.features["term"]["entropy"] = 0.01
    assert advise_on_run(cfg, report, {}) == []
    cfg.data.terminology.glossary = None
    assert advise_on_run(cfg, report, {}) == [
        "features.term is nearly constant, 0.01 bits: leave it out"
    ]


def test_replace(small: Small) -> None:
    prepared = prepare(small, *FACTOR, "data.terminology.mode=replace")
    assert set(prepared.tests["test"].texts("source")) == {"The Kaiser saw the Frauen."}
    assert prepared.tests["test"].feature_text("term", 0) == "0 2 0 0 2 0"
    assert set(prepared.tests["test"].source_texts) == {"The king saw the women."}


def test_tags(small: Small) -> None:
    prepared = prepare(small, *TAGS)
    written = "The ⟦ king ⟠ Kaiser ⟧ saw the ⟦ women ⟠ Frauen ⟧ ."
    assert set(prepared.tests["test"].texts("source")) == {written}
    with_markup = prepare(small, *TAGS, "data.terminology.tags=[<t>,<m>,</t>]")
    written = "The <t> king <m> Kaiser </t> saw the <t> women <m> Frauen </t> ."
    assert set(with_markup.tests["test"].texts("source")) == {written}


def changed_rows(small: Small, share: float) -> set[int]:
    train = prepare(small, *FACTOR, f"data.terminology.share={share}").train
    pairs = zip(train.texts("source"), train.source_texts, strict=True)
    return {i for i, (written, original) in enumerate(pairs) if written != original}


def test_larger_share_has_the_smaller_one(small: Small) -> None:
    half, whole = changed_rows(small, 0.5), changed_rows(small, 1.0)
    assert set() < half < whole
    assert changed_rows(small, 0.8) >= half


@pytest.mark.thorough
def test_shuffled_glossary(small: Small) -> None:
    settings = (*FACTOR, "data.terminology.shuffled=true")
    prepared, true = prepare(small, *settings), prepare(small, *FACTOR)
    changed = [
        [a != b for a, b in zip(p.train.texts("source"), p.train.source_texts, strict=True)]
        for p in (prepared, true)
    ]
    assert changed[0] == changed[1]  # the same pairs, with other translations
    (written,) = set(prepared.tests["test"].texts("source"))
    assert "Kaiser saw" not in written
    assert not written.endswith("Frauen.")
    folder = small.train(*settings)
    with pytest.raises(UserError, match="shuffled=true, so a text means nothing to it"):
        TrainedModel(folder)


def test_lemmas(small: Small, tmp_path: Path) -> None:
    annotated = [f"data.{key}.source={key.rpartition('.')[2]}.conllu" for key in PLAIN]
    (path := tmp_path / "g.tsv").write_text("wife\tFrau\twoman\n", encoding="utf-8")
    settings = (*FACTOR, *annotated, f"data.terminology.glossary={path}")
    train = prepare(small, *settings, "data.terminology.match=lemma").train
    written = {w for text in train.texts("source") for w in text.split() if w.startswith("Frau")}
    assert "Frau" in written
    with pytest.raises(UserError, match="no pair of train has a term and its translation"):
        prepare(small, *settings)  # as it is written, no term is there


@pytest.mark.slow
def test_translations_in_other_forms(small: Small, tmp_path: Path) -> None:
    pytest.importorskip("simplemma")
    (path := tmp_path / "g.tsv").write_text("women\tFrau\n", encoding="utf-8")
    settings = (*FACTOR, f"data.terminology.glossary={path}")
    lemmas = "data.terminology.target_lemmas"
    lemmatizer = (f"{lemmas}._target_=nmt_feat.annotators.Simplemma", f"+{lemmas}.args.language=de")
    train = prepare(small, *settings, *lemmatizer).train
    pairs = zip(train.texts("source"), train.target_texts, strict=True)
    targets = [target for source, target in pairs if "women Frau" in source]
    assert any("Frauen" in target for target in targets)
    assert all("Frau" in target for target in targets)


@pytest.mark.thorough
def test_prepared_arrays_and_runs_without_terms_are_as_they_were(small: Small) -> None:
    """The tables of all splits, byte for byte, and the hash of the run."""
    words = ("combiner=none", "data.terminology.mode=none")
    with_glossary = small.config(*words)
    without = small.config(*words, "data.terminology.glossary=null")
    never = small.config("combiner=none", "data.terminology.glossary=null")
    assert len({repr(hash_data(cfg, {})) for cfg in (with_glossary, without, never)}) == 1
    prepared = prepare(small, *words)
    names = pa.ipc.open_file(str(prepared.folder / "0.arrow")).schema.names
    assert names == ["source", "target", "source_text", "target_text"]
    folder = small.train(*words, "trainer.max_steps=2")
    assert "terminology" not in record(folder)["settings"]["data"]
    again = small.train("combiner=none", "trainer.max_steps=2", "data.terminology.glossary=null")
    assert again == folder


def test_settings_that_take_effect_are_the_runs(factored: Path) -> None:
    expected = {"mode": "append", "marking": "factor", "match": "surface", "share": 1.0}
    assert record(factored)["settings"]["data"]["terminology"] == expected


def test_model_card_says_how_to_give_a_glossary(factored: Path) -> None:
    card = (factored / "README.md").read_text(encoding="utf-8")
    assert "input=sentences.txt glossary=glossary.tsv output=translations.txt" in card


@pytest.mark.thorough
def test_translation_reads_what_the_test_set_was(
    small: Small, factored: Path, tmp_path: Path
) -> None:
    """The run's own test set as raw text, with the glossary: the same pieces, marks, words."""
    text, glossary = small.corpus / "test.en", small.corpus / "glossary.tsv"
    done = call("translate", f"run={factored}", f"input={text}", f"glossary={glossary}")
    assert (done.code, done.out) == (0, (factored / "test.hyp").read_text("utf-8")), done.err
    model = TrainedModel(factored)
    model.use_glossary(glossary)
    sentences = [Sentence("The king saw the women.")]
    split, prepared = model.encode_pairs(sentences, [""], ["here"]), prepare(small, *FACTOR)
    test = prepared.tests["test"]
    first = slice(*test.source.offsets[:2])
    assert split.source.values.tolist() == test.source.values[first].tolist()
    assert split.features["term"].tolist() == test.features["term"][first].tolist()
    plain = call("translate", f"run={factored}", f"input={text}")
    assert plain.code == 0
    scored = call(
        "score",
        *(f"run={factored}", f"source={text}", f"target={small.corpus / 'test.de'}"),
        f"glossary={glossary}",
    )
    assert (scored.code, scored.out.count("\n")) == (0, 8)


def test_inspected_words_have_their_marks(small: Small, factored: Path) -> None:
    run = load_run(factored, glossary=small.corpus / "glossary.tsv")
    words = run.inspect("The king slept.")
    assert [word.features["term"] for word in words] == ["0", "1", "2", "0", "0"]


def test_marks_of_the_text_stay(small: Small, factored: Path) -> None:
    run = load_run(factored, glossary=small.corpus / "glossary.tsv")
    block = "1\tking\t_\t_\t_\t_\t_\t_\t_\tTERM=1\n2\tKarl\t_\t_\t_\t_\t_\t_\t_\tTERM=2\n\n"
    (path := small.folder / "own.conllu").write_text(block, encoding="utf-8")
    (sentence,) = read_conllu(path)
    assert [word.features["term"] for word in run.inspect(sentence)] == ["1", "2"]


def test_words_beside_marks_of_the_text_are_of_no_term(small: Small, factored: Path) -> None:
    """As in training, where every word has a mark."""
    run = load_run(factored)
    marked = Sentence("king Karl saw", tuple(whitespace_words("king Karl saw")))
    marks = zip(marked.words, ("TERM=1", "TERM=2", "_"), strict=True)
    words = tuple(word._replace(misc=mark) for word, mark in marks)
    inspected = run.inspect(marked._replace(words=words))
    assert [word.features["term"] for word in inspected] == ["1", "2", "0"]


def test_invisible_lines_need_no_annotation(small: Small, tmp_path: Path) -> None:
    """Terms or not: a line of a zero-width space has no words."""
    corpus = write_corpus(tmp_path / "corpus")
    settings = {"data.terminology.glossary": corpus / "glossary.tsv", "data.readings": "false"}
    run = Small(corpus, small.cache, tmp_path, settings).train(
        "features=[term,upos]", "combiner=add", "trainer.max_steps=2"
    )
    sentences = [*islice(read_conllu(corpus / "test.conllu"), 1), Sentence("\u200b")]
    assert len(load_run(run).translate(sentences)) == 2
    with pytest.raises(UserError, match="sentence 2: no annotation of 'king'"):
        load_run(run).translate([Sentence("\u200b"), Sentence("king")])


def test_what_no_annotation_says_stays_unknown() -> None:
    """Marks of terms give a sentence words; other features of these are not `_`, but unknown."""
    write = Insertion().write_terms
    words = "1\tking\t_\tNOUN\t_\t_\t_\t_\t_\tNER=O\n"
    (annotated,) = parse_conllu(words.split("\n"), "x")
    sentences = [write(annotated, []), write(Sentence("the king"), [])]
    columns = [f"misc.{KEY}", "upos", "misc.NER"]
    read = [read_column(Sentences.of(sentences), column) for column in columns]
    values = [[column.values[code] for code in column.codes] for column in read]
    assert values == [["0", "0", "0"], *(["NOUN", MISSING, MISSING], ["O", MISSING, MISSING])]
    message = "^b: no annotation of 'the king', but features need it"
    for column in ("upos", "misc.NER"):
        features = {"term": FeatureVocab(columns[0], "copy", ["0"])}
        features[column] = FeatureVocab(column, "copy", ["NOUN", "O"])
        encoder = SourceEncoder(Words("none", ["king"]), features)
        aligned = encoder.align(encoder.read_columns(sentences[:1]), ["a"])
        assert aligned.values["term"].values == ["0"]
        with pytest.raises(UserError, match=message):
            encoder.align(encoder.read_columns(sentences), ["a", "b"])


def test_export_reads_the_runs_own_glossary(small: Small, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    glossary = shutil.copy(small.corpus / "glossary.tsv", tmp_path / "g.tsv")
    gate = ("features=[term]", "combiner=gate", f"data.terminology.glossary={glossary}")
    run = small.train(*gate, "trainer.max_steps=2")
    Path(glossary).unlink()
    done = call("export", run)
    assert (done.code, "combinations of piece and features" in done.out) == (0, True), done.err


def test_terms_longer_than_the_text(small: Small, factored: Path, tmp_path: Path) -> None:
    (path := tmp_path / "g.tsv").write_text("the king saw the women again\tx\n", encoding="utf-8")
    model = TrainedModel(factored)
    model.use_glossary(path)
    described = model.describe_sentences([Sentence("The king saw the women")], ["here"])
    assert described.words.texts == ["The king saw the women"]


def test_tags_in_the_text_are_refused(small: Small, tmp_path: Path) -> None:
    copy = shutil.copytree(small.corpus, tmp_path / "corpus")
    lines = (copy / "train.en").read_text("utf-8").splitlines()
    lines[3] = "Wait ⟠ here."
    (copy / "train.en").write_text("\n".join([*lines, ""]), encoding="utf-8")
    with pytest.raises(UserError) as error:
        prepare(small, *TAGS, f"data.folder={copy}")
    assert str(error.value) == (
        f"{copy / 'train.en'}: sentence 4: 'Wait ⟠ here.' has '⟠', which marks terms; take it out "
        "of the text, or train with other data.terminology.tags"
    )
    folder = small.train(*TAGS)
    (text := tmp_path / "text").write_text("a\nb ⟧\n", encoding="utf-8")
    done = call("translate", f"run={folder}", f"input={text}")
    assert (done.code, done.err.startswith(f"error: {text}:2: 'b ⟧' has '⟧'")) == (2, True)


def test_tags_in_a_translation_are_refused(small: Small, tmp_path: Path) -> None:
    (path := tmp_path / "g.tsv").write_text("bank\tBank\nking\ta ⟠ b\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        prepare(small, *TAGS, f"data.terminology.glossary={path}")
    assert str(error.value).startswith(
        f"{path}: the translation of 'king': 'a ⟠ b' has '⟠', which marks terms; take it out of "
    )


REFUSED = {
    "data.terminology.mode=prepend": "data.terminology.mode=prepend: unknown; did you mean "
    "'append'?",
    "data.terminology.share=2": "data.terminology.share=2.0: must be 0 to 1",
    "data.terminology.tags=[a,b]": "data.terminology.tags=[a,b]: give three different words "
    "without spaces: the tags that begin a term, stand before its translation, and end it",
    "features=[shape]": "data.terminology.marking=factor: no feature reads the marks of terms; "
    "choose the feature term, as features=[term], or set data.terminology.marking=tags",
    "data.terminology.marking=tags": "data.terminology.marking=tags: words have no marks, which a "
    "feature reads (column=misc.TERM); leave it out, or set data.terminology.marking=factor",
    "data.terminology.match=lemma": "data.terminology.match=lemma: nothing gives lemmas; set "
    "annotator=hanta or another, or data.terminology.match=surface",
    "data.terminology.glossary=nowhere.tsv": "nowhere.tsv: no such file; check the path",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_refused_settings(small: Small, setting: str) -> None:
    key = setting.partition("=")[0]
    more = [s for s in FACTOR if not s.startswith(f"{key}=")]
    with pytest.raises(UserError) as error:
        resolve_settings(small.config(*more, setting), False, Console(quiet=True))
    assert str(error.value) == REFUSED[setting]


@pytest.mark.parametrize("setting", ["mode=replace", "share=0.5", "shuffled=true", "tags=[a,b,c]"])
def test_settings_of_terms_need_a_glossary(small: Small, setting: str) -> None:
    name = setting.partition("=")[0]
    alone = ("combiner=none", "data.terminology.glossary=null", f"data.terminology.{setting}")
    with pytest.raises(UserError, match=rf"^data.terminology.{name}.*: needs a glossary; set data"):
        resolve_settings(small.config(*alone), False, Console(quiet=True))
    resolve_settings(
        small.config(*alone[:2], "data.terminology.mode=none"), False, Console(quiet=True)
    )


def test_tags_of_interleave_are_marks_too(small: Small) -> None:
    settings = ("method=interleave", "combiner=none", "features=[shape]")
    with pytest.raises(UserError) as error:
        resolve_settings(small.config(*settings), False, Console(quiet=True))
    assert str(error.value) == REFUSED["features=[shape]"]


def test_run_without_terms_takes_no_glossary(small: Small) -> None:
    folder = small.train("combiner=none", "trainer.max_steps=2", "data.terminology.mode=none")
    done = call("translate", f"run={folder}", "glossary=g.tsv", stdin=b"a\n")
    assert done.code == 2
    assert done.err == (
        f"error: glossary=g.tsv: {folder} was trained without terms; give a run that was trained "
        "with data.terminology.glossary, or leave it out\n"
    )


def test_glossary_of_aligned_text(small: Small, tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    source, target = (small.corpus / f"train.{language}" for language in ("en", "de"))
    out = tmp_path / "out.tsv"
    numbers = ("--skip", 10, "--agreement", 0.7)
    done = call("glossary", source, target, "--out", out, *numbers)
    assert done.code == 0, done.err
    rows = dict(line.split("\t") for line in out.read_text("utf-8").splitlines())
    assert rows["kitchen"] == "Küche"
    assert all(source == source.lower() for source in rows)
    whole = call("glossary", source, target, "--out", out, *numbers, "--longest", 10**9)
    assert whole.code == 0  # as long as sentences are
    for arguments, message in (
        (["--agreement", "2"], "--agreement 2.0: must be above 0, at most 1"),
        (["--min-count", "0"], "--min-count 0: must be at least 1"),
        (["--skip", "100000"], "no term is in 3 sentences and agrees by 0.6"),
    ):
        done = call("glossary", source, target, "--out", out, *arguments)
        assert (done.code, message in done.err) == (2, True), done.err
    done = call("glossary", source, small.corpus / "dev.de", "--out", out)
    assert "line n has to translate line n" in done.err


def test_marks_of_morphemes_are_not_joined() -> None:
    """Not `1+1`, which would be another value than `1`, by default or by a setting."""
    settings = FeatureConfig(column=f"misc.{KEY}")
    assert choose_kind("term", settings).choose_cover(of_morphemes=True) == "first"
    other = FeatureConfig(column="misc.NER")
    assert choose_kind("ner", other).choose_cover(of_morphemes=True) == "join"
    settings.cover = "join"
    with pytest.raises(UserError, match="cannot be joined; set cover=first"):
        choose_kind("term", settings).check_settings()


def test_training_keeps_the_marks_of_its_text(tmp_path: Path) -> None:
    """As translation does: such a sentence gets no terms, and its other words count as 0."""
    corpus = write_corpus(tmp_path / "corpus")
    settings = {"data.terminology.glossary": corpus / "glossary.tsv", "data.readings": "false"}
    marked = Small(corpus, tmp_path / "cache", tmp_path, settings)
    path = corpus / "test.conllu"
    blocks = path.read_text(encoding="utf-8").split("\n\n")
    lines = blocks[0].split("\n")
    first = next(i for i, line in enumerate(lines) if line.startswith("1\t"))
    lines[first] = lines[first].rpartition("\t")[0] + "\tTERM=2"
    path.write_text("\n\n".join(["\n".join(lines), *blocks[1:]]), encoding="utf-8")
    prepared = prepare(marked, "features=[term,upos]", "combiner=add")
    test = prepared.tests["test"]
    assert next(iter(test.texts("source"))) == test.source_texts[0]
    assert {*prepared.encoder.features["term"].values} == {"0", "1", "2"}
    values = test.feature_text("term", 0).split()
    assert (values[0], {*values[1:]}) == ("2", {"0"})
    assert any("1 sentences keep their marks" in note for note in prepared.notes)
