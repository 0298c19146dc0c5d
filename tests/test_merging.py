"""Annotation of several sources in one: what the text brings, and what annotators add."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nmt_feat.annotators.combined import write_annotations
from nmt_feat.annotators.texts import make_annotators
from nmt_feat.cli.compose import compose_settings
from nmt_feat.config.data_schema import AnnotatorConfig, AnnotatorPart, DataConfig
from nmt_feat.config.rules import check_settings
from nmt_feat.data.controls import prepare_run
from nmt_feat.errors import UserError
from nmt_feat.runs.trained.inputs import Text
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import Sentence, Word, read_conllu, write_conllu
from nmt_feat.text.merging import (
    TEXT,
    Annotation,
    Conflicts,
    choose_owners,
    describe_second_sources,
    merge_annotations,
)
from nmt_feat.text.sentences import Sentences
from nmt_feat.text.word_values import MISSING
from tests.support.applied import said
from tests.support.entry import call
from tests.support.mistakes import line
from tests.support.pairs import HANTA, folder, run
from tests.support.small import Small

TOOLS = '''"""Annotators of these tests."""
import re
from nmt_feat.annotators import Annotator
from nmt_feat.text.conllu import Sentence, Word


class Spaces(Annotator):
    """Words between spaces; each hangs on the one before it."""

    name = "spaces"
    columns = ("upos", "deprel", "head_upos")

    def fingerprint(self):
        return "spaces 1"

    def annotate(self, texts):
        return [Sentence(t, tuple(self.words(t))) for t in texts]

    def words(self, text):
        for number, match in enumerate(re.finditer(r"\\S+", text)):
            upos = "LONG" if len(match[0]) > 3 else "SHORT"
            above = "ROOT" if not number else "ANY"
            span = match.start(), match.end()
            yield Word(match[0], *span, upos=upos, deprel=above, head_upos=above, head=number)


class Names(Annotator):
    """Letters and marks apart; capitals are names, and have part of speech and lemma too."""

    name = "names"
    columns = ("lemma", "upos", "misc")

    def fingerprint(self):
        return "names 1"

    def annotate(self, texts):
        return [Sentence(t, tuple(self.words(t))) for t in texts]

    def words(self, text):
        for match in re.finditer(r"\\w+|[^\\w\\s]", text):
            ner = "NER=NAME" if match[0][0].isupper() else "_"
            span = match.start(), match.end()
            yield Word(match[0], *span, match[0].lower(), "N", misc=ner)
'''
SPACES = AnnotatorPart("merging_tools.Spaces")
NAMES = AnnotatorPart("merging_tools.Names")
BOTH = AnnotatorConfig(processes=1, parts={"spaces": SPACES, "names": NAMES})


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "merging_tools.py").write_text(TOOLS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "merging_tools", raising=False)  # of another test


def words(text: str, *rows: dict[str, str]) -> Sentence:
    """A sentence whose words are those between spaces, with these values."""
    spans, end = [], 0
    for form in text.split():
        start = text.index(form, end)
        end = start + len(form)
        spans.append((form, start, end))
    return Sentence(text, tuple(Word(*s, **r) for s, r in zip(spans, rows, strict=True)))  # type: ignore[arg-type]


def cut(text: str, *parts: tuple[str, dict[str, str]]) -> tuple[Word, ...]:
    """Words with these forms and values, where they stand in the text."""
    words, end = [], 0
    for form, values in parts:
        start = text.index(form, end)
        end = start + len(form)
        words.append(Word(form, start, end, **values))  # type: ignore[arg-type]
    return tuple(words)


# ---- a sentence


def test_each_column_from_its_source() -> None:
    """The text's mark stays, its words are the words; what it lacks the annotators add."""
    text = words("don't sleep", {"misc": "Term=1"}, {})
    parts = ("do", {"upos": "AUX"}), ("n't", {"upos": "PART"}), ("sleep", {"upos": "VERB"})
    syntax = Sentence(text.text, cut(text.text, *parts))
    entities = words("don't sleep", {"misc": "NER=B-X|Term=9"}, {"misc": "NER=O"})
    owners = {"upos": ["a"], "misc.Term": [TEXT], "misc.NER": ["b"]}
    conflicts = Conflicts()
    annotations = [Annotation(TEXT, text), Annotation("a", syntax), Annotation("b", entities)]
    merged = merge_annotations(annotations, owners, conflicts)
    assert [(w.form, w.upos, w.misc) for w in merged.words] == [
        ("don't", "AUX", "Term=1|NER=B-X"),
        ("sleep", "VERB", "NER=O"),
    ]
    assert conflicts.describe("the text") == [
        "1 words of the text are cut in another way by a, the first: \"don't\" is 'do' + \"n't\"; "
        "each has the value where it begins"
    ]


def test_morphemes_are_joined_and_larger_words_give_to_each() -> None:
    text = words("ab c", {}, {})
    small = cut(text.text, ("a", {"upos": "N"}), ("b", {"upos": "P"}), ("c", {"upos": "V"}))
    large = cut(text.text, ("ab c", {"lemma": "abc"}))
    annotations = [
        Annotation(TEXT, text),
        Annotation("small", Sentence(text.text, small), joins=True),
        Annotation("large", Sentence(text.text, large)),
    ]
    merged = merge_annotations(annotations, {"upos": ["small"], "lemma": ["large"]}, Conflicts())
    assert [(w.upos, w.lemma) for w in merged.words] == [("N+P", "abc"), ("V", "abc")]


def test_heads_are_numbered_anew() -> None:
    """A word hangs on the word in which its head is, outside of itself."""
    text = "can't stop now"
    base = Annotation("base", words(text, {}, {}, {}))
    parts = cut(text, ("ca", {}), ("n't", {}), ("stop", {}), ("now", {}))
    heads = zip(parts, (3, 1, 0, 3), strict=True)
    tree = tuple(w._replace(head=head, deprel="x", head_upos="Y") for w, head in heads)
    owners = {"deprel": ["tree"], "head_upos": ["tree"], "head": ["tree"]}
    annotations = [base, Annotation("tree", Sentence(text, tree))]
    merged = merge_annotations(annotations, owners, Conflicts())
    assert [w.head for w in merged.words] == [2, 0, 2]


def test_a_text_wins_in_a_sentence_where_it_says_anything() -> None:
    """As in a text to translate that brings its own tags, whatever training had."""
    tags, tagged = words("a b", {"upos": "X"}, {"upos": "Y"}), words("a b", {"upos": "T"}, {})
    for text, expected in ((tagged, ["T", "_"]), (words("a b", {}, {}), ["X", "Y"])):
        annotations = [Annotation(TEXT, text), Annotation("t", tags)]
        merged = merge_annotations(annotations, {"upos": ["t"]}, Conflicts())
        assert [word.upos for word in merged.words] == expected


def test_an_annotator_says_what_a_text_does_not_bring() -> None:
    """Gold tags in training, a tagger's where a text has none; marks of terms nobody can give."""
    owners = {"upos": [TEXT, "t"], "misc.Term": [TEXT]}
    plain, tagged = Sentence("a b"), words("a b", {"upos": "X"}, {"upos": "Y"})
    merged = merge_annotations(
        [Annotation(TEXT, plain), Annotation("t", tagged)], owners, Conflicts()
    )
    assert [(w.upos, w.misc) for w in merged.words] == [
        ("X", f"Term={MISSING}"),
        ("Y", f"Term={MISSING}"),
    ]
    assert describe_second_sources(owners) == "upos by t; in training the text's"


def test_the_first_source_that_says_anything_has_a_column() -> None:
    columns = {
        TEXT: {"misc": "Term=1"},
        "a": {"upos": "N", "misc": "Term=2|NER=O"},
        "b": {"upos": "N", "misc": "Term=3"},
    }
    sources = {name: [Sentences.of([words("x y", c, {})])] for name, c in columns.items()}
    owners = {"misc.Term": [TEXT, "a"], "misc.NER": ["a"], "upos": ["a"]}
    assert choose_owners(sources) == owners


# ---- a corpus


@pytest.mark.usefixtures("tools")
def test_two_annotators(pairs: DataConfig) -> None:
    """The first one's words; of a column of both, the first one's values."""
    corpus = run(pairs, BOTH, True)
    sentence = corpus.train.source[2]
    assert [(w.form, w.lemma, w.upos, w.deprel, w.misc) for w in sentence.words] == [
        ("The", "the", "SHORT", "ROOT", "NER=NAME"),
        ("man's", "man", "LONG", "ANY", "_"),
        ("duck", "duck", "LONG", "ANY", "_"),
        ("ran.", "ran", "LONG", "ANY", "_"),
    ]
    assert corpus.notes[0] == (
        "train: 5 words of spaces are cut in another way by names, the first: 'sleeps.' is "
        "'sleeps' + '.'; each has the value where it begins"
    )
    alone = run(pairs, AnnotatorConfig(SPACES._target_, processes=1), True)
    combined = replace(BOTH, parts={"spaces": SPACES})
    assert run(pairs, combined, True).train == alone.train
    assert run(pairs, combined, True).fingerprint == alone.fingerprint


@pytest.mark.thorough
@pytest.mark.usefixtures("tools")
def test_a_text_of_its_own_columns_and_an_annotator(pairs: DataConfig) -> None:
    """The text's words and tags stay, lemmas and names are added; `replace` is as it was."""
    annotated = run(pairs, HANTA, True)
    for split, sentences in (("train", annotated.train), ("dev", annotated.dev)):
        tagged = [
            Sentence(s.text, tuple(Word(w.form, w.start, w.end, upos="T") for w in s.words))
            for s in sentences.source
        ]
        (folder(pairs) / f"{split}.conllu").write_text(write_conllu(tagged))
    pairs.train.source, pairs.dev.conllu, pairs.tests = "train.conllu", "dev.conllu", {}
    names = AnnotatorConfig(NAMES._target_, processes=1)
    merged = run(pairs, names, True)
    assert [(w.form, w.upos, w.lemma, w.misc) for w in merged.train.source[2].words[:3]] == [
        ("The", "T", "the", "NER=NAME"),
        ("man", "T", "man", "_"),
        ("'s", "T", "'", "_"),
    ]
    assert {w.upos for s in merged.dev.source for w in s.words} == {"T"}
    anew = run(pairs, replace(names, replace=True), True)
    assert {w.upos for s in anew.train.source for w in s.words} == {"N"}
    assert anew.notes[0] == "train: annotated by names; the annotation in train.conllu is unused"
    assert merged.fingerprint != anew.fingerprint


@pytest.mark.usefixtures("tools")
def test_lines_of_json_without_words_are_plain(pairs: DataConfig) -> None:
    """Their annotation and its hash are those of an annotator alone."""
    for name in ("train", "dev", "test"):
        path = folder(pairs) / f"{name}.en"
        texts = path.read_text().splitlines()
        (folder(pairs) / f"{name}.jsonl").write_text(
            "".join(json.dumps({"text": text}) + "\n" for text in texts)
        )
    for split in (pairs.train, pairs.dev, pairs.tests["test"]):
        split.source = split.source.replace(".en", ".jsonl")
    names = AnnotatorConfig(NAMES._target_, processes=1)
    merged, anew = run(pairs, names, True), run(pairs, replace(names, replace=True), True)
    assert (merged.train, merged.fingerprint) == (anew.train, anew.fingerprint)


# ---- a run


def write_terms(small: Small, corpus: Path) -> list[str]:
    """The corpus as factored text, whose only factor marks every word with an a; settings."""
    settings = ["data=files", "data.source_lang=en", "data.target_lang=de"]
    settings += ["data.format=pipe", "data.factors=[misc.Term]", "subword.vocab_size=100"]
    for split, key in (("train", "train"), ("dev", "dev"), ("test", "tests.test")):
        path = small.folder / f"{split}.pipe"
        rows = (s.text.split() for s in read_conllu(corpus / f"{split}.conllu"))
        lines = (" ".join(f"{w}|{'yes' if 'a' in w else '_'}" for w in row) for row in rows)
        path.write_text("".join(f"{text}\n" for text in lines), encoding="utf-8")
        settings += [f"data.{key}.source={path}", f"data.{key}.target={split}.de"]
    return [*settings, "features.term.column=misc.Term", "combiner=add", "annotator.processes=1"]


COMBINED = (
    *("annotator=[spaces,names]", "features=[upos,lemma]", "+features.ner.column=misc.NER"),
    *("trainer.max_steps=2", "trainer.validate_every=2"),
)


@pytest.mark.thorough
@pytest.mark.usefixtures("tools")
def test_a_run_reads_both_wherever_it_reads(small: Small, corpus: Path) -> None:
    """Training, translate, score and reliance; the record says which column is whose."""
    options = small.folder / "annotator"
    options.mkdir()
    for name in ("Spaces", "Names"):
        path = options / f"{name.lower()}.yaml"
        path.write_text(f"_target_: merging_tools.{name}\n")
    terms = write_terms(small, corpus)
    settings = small.overrides(*terms, *COMBINED)
    done = call("train", f"--config-dir={small.folder}", *settings)
    assert done.code == 0, done.err
    (run_folder,) = (small.folder / "runs").glob("add-*")
    record = json.loads((run_folder / "result.json").read_text(encoding="utf-8"))
    features = record["data_report"]["features"]
    assert {name: feature["source"] for name, feature in features.items()} == {
        "upos": "spaces",
        "lemma": "names",
        "ner": "names",
        "term": TEXT,
    }
    assert record["settings"]["annotator"] == ["merging_tools.Spaces", "merging_tools.Names"]
    text = small.folder / "test.pipe"
    done = call("translate", f"run={run_folder}", f"input={text}", "format=pipe")
    assert (done.code, said(done)) == (0, "")
    assert done.out == (run_folder / "test.hyp").read_text(encoding="utf-8")
    score = f"target={corpus / 'test.de'}", f"source={text}", "format=pipe"
    done = call("score", f"run={run_folder}", *score)
    assert (done.code, len(done.out.splitlines())) == (0, 8)
    done = call("reliance", run_folder, "--draws", 1)
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].startswith("true")
    suite = small.folder / "suite.tsv"
    source = text.read_text(encoding="utf-8").split("\n")[0].replace("|yes", "").replace("|_", "")
    suite.write_text(f"source\treference\tcontrastive\n{source}\ta\tb\n", encoding="utf-8")
    done = call("contrast", run_folder, "--suite", suite, "--source", text)
    assert (done.code, "lemma: 3 of 7 words" in done.err, "'_'" in done.err) == (0, True, False)
    plain = small.folder / "plain"
    plain.write_text("a cat\n")
    assert line(call("translate", f"run={run_folder}", f"input={plain}", "format=text"), small) == (
        "HERE/plain: sentence 1: the text gives no words for 'a cat', but in train the misc.Term "
        "of features.term comes from the text; give them, or set features.term.missing=unknown"
    )


@pytest.mark.usefixtures("tools")
def test_a_run_of_plain_text_completes_annotated_text(small: Small, corpus: Path) -> None:
    """A column that CoNLL-U lacks is the annotator's, in `evaluate` as in `translate`, `score`."""
    settings = ["annotator._target_=merging_tools.Spaces", "annotator.processes=1"]
    settings += ["features=[upos,deprel]", "combiner=add", "trainer.max_steps=2"]
    for split, key in (("train", "train"), ("dev", "dev"), ("test", "tests.test")):
        path = small.folder / f"{split}.en"
        texts = [sentence.text for sentence in read_conllu(corpus / f"{split}.conllu")]
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        settings.append(f"data.{key}.source={path}")
    run_folder, target = small.train(*settings), str(corpus / "test.de")
    whole = list(read_conllu(corpus / "test.conllu"))
    bare = [s._replace(words=tuple(w._replace(deprel="_") for w in s.words)) for s in whole[1:]]
    source = small.folder / "part.conllu"
    source.write_text(write_conllu([whole[0], *bare]), encoding="utf-8")
    tests = [f"+data.tests.part.source={source}", f"+data.tests.part.target={target}"]
    done = call("evaluate", f"run={run_folder}", *(line.lstrip("+") for line in tests))
    assert done.code == 0, done.err
    done = call("translate", f"run={run_folder}", f"input={source}")
    assert (done.code, done.out) == (0, (run_folder / "part.hyp").read_text(encoding="utf-8"))
    tested = prepare_run(small.config(*settings, *tests)).tests["part"]
    model = TrainedModel(run_folder)
    pairs = model.read_pairs(model.make_reader(Text(str(source))), target)  # as `score` does
    for name, ids in model.encode_pairs(*pairs).features.items():
        assert ids.tolist() == tested.features[name].tolist()
    values = [[(word.upos, word.deprel) for word in sentence.words] for sentence in pairs[0]]
    assert values[0] == [(word.upos, word.deprel) for word in whole[0].words]
    for row, sentence in zip(values[1:], whole[1:], strict=True):
        assert row[:2] == [(sentence.words[0].upos, "ROOT"), (sentence.words[1].upos, "ANY")]
    annotation = TrainedModel(run_folder).annotation
    assert annotation.complete_sentences(whole, "x") == whole
    assert "annotators" not in vars(annotation)  # nothing is lacking, so none was loaded


@pytest.mark.usefixtures("tools")
def test_what_a_test_set_lacks(pairs: DataConfig) -> None:
    """A column that is the text's in train is missing where another split does not bring it."""
    pairs.train.factors = {"misc.Term": "train.term"}
    texts = (folder(pairs) / "train.en").read_text().splitlines()
    rows = (" ".join("yes" if "a" in w else "_" for w in text.split()) for text in texts)
    (folder(pairs) / "train.term").write_text("".join(f"{row}\n" for row in rows))
    names = AnnotatorConfig(NAMES._target_, processes=1)
    corpus = run(pairs, names, True)
    assert [w.misc for w in corpus.train.source[1].words] == ["NER=NAME", "Term=yes", "_", "_"]
    assert [w.misc for w in corpus.dev.source[1].words][:2] == [
        "Term=<missing>|NER=NAME",
        "Term=<missing>",
    ]


@pytest.mark.usefixtures("tools")
def test_a_file_of_two_annotators(small: Small) -> None:
    """`annotate` writes the columns of both, and continues as with one."""
    text, out = ["We met", "", "Ann's cat."], small.folder / "out.conllu"
    annotators = make_annotators(BOTH)
    conflicts = write_annotations(annotators, text, out, 1)
    (conflict,) = conflicts
    assert conflict.startswith("2 words of spaces are cut in another way by names, the first: ")
    first, blank, last = read_conllu(out)
    assert [(w.upos, w.head, w.misc) for w in first.words] == [
        ("SHORT", 0, "NER=NAME"),
        ("SHORT", 1, "_"),
    ]
    assert (blank.words, [w.lemma for w in last.words]) == ((), ["ann", "cat"])
    before = out.read_bytes()
    assert write_annotations(annotators, text, out, 1) == []
    assert out.read_bytes() == before
    assert sorted(path.name for path in small.folder.iterdir() if "out" in path.name) == [out.name]


MISTAKES = {
    "annotator=[hanta,hanta]": "annotator=[hanta,hanta]: names an annotator twice; leave one out",
    "annotator=[hanta,udpip]": "annotator=udpip: no such option; did you mean 'udpipe'?",
    "annotator=[hanta,none]": "annotator=hanta+none: none is not an annotator; leave it out",
    "annotator=[hanta,udpipe] annotator.model=x": "annotator.model=x: several annotators are "
    "combined; say whose it is: annotator.hanta.model=...",
    "annotator=[hanta,udpipe] annotator.spacy.model=x": "annotator.parts.spacy: no annotator of "
    "this name is combined; name it in annotator=[...], or set annotator.model where there is one "
    "annotator",
}


@pytest.mark.parametrize("settings", MISTAKES)
def test_mistakes(settings: str) -> None:
    with pytest.raises(UserError) as error:
        check_settings(compose_settings(settings.split()))
    assert str(error.value) == MISTAKES[settings]
