"""Values of whole sentences: how comments and files of labels are read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nmt_feat.config.data_schema import DataConfig, SplitConfig
from nmt_feat.config.schema import FeatureConfig
from nmt_feat.data.local_test_sets import read_test_set
from nmt_feat.data.sentence_labels import read_comments
from nmt_feat.errors import UserError
from nmt_feat.features.choice import choose_kind
from nmt_feat.runs.trained.inputs import Reader, Text
from nmt_feat.text.conllu import Sentence, find_label, replace_labels
from nmt_feat.text.json_lines import parse_jsonl
from nmt_feat.text.sentences import Sentences


def read_labelled(path: Path, line: str, label: str) -> list[tuple[str, ...]]:
    """The comments of a line with a file of labels beside it: as `translate` and a run read it."""
    path.write_text(f"{line}\n", encoding="utf-8")
    labels = path.with_suffix(".formality")
    labels.write_text(f"{label}\n", encoding="utf-8")
    text = Text(str(path), label_files={"formality": str(labels)})
    (sentence,) = Reader(text).read_sentences()
    data = DataConfig("x", "en", "en", folder=str(path.parent))
    split = SplitConfig(path.name, path.name, labels={"formality": labels.name})
    (again,), *_ = read_test_set(data, path.parent, "data.tests.x", split)
    return [sentence.comments, again.comments]


def test_labels_of_files_have_normal_form(tmp_path: Path) -> None:
    """As those of training: no-break spaces and composed letters make no other value."""
    for comments in read_labelled(tmp_path / "x.en", "a b", "very\u00a0  fo\u0308rmal"):
        assert find_label(comments, "formality") == "very f\u00f6rmal"


def test_a_blank_line_of_a_file_is_no_label(tmp_path: Path) -> None:
    """In training, too, a file takes the place of comments."""
    line = '{"text": "a", "comments": ["# formality = formal", "# n = 1"]}'
    for comments in read_labelled(tmp_path / "x.jsonl", line, ""):
        assert find_label(comments, "formality") is None
        assert find_label(comments, "n") == "1"


def test_json_lines_with_factors_keep_their_comments() -> None:
    line = '{"text": "a b", "factors": ["X Y"], "comments": ["# formality = formal"]}'
    (sentence,) = parse_jsonl([line], "x", ["upos"])
    assert find_label(sentence.comments, "formality") == "formal"


def test_labels_of_comments_and_settings_have_normal_form() -> None:
    """As those of files: written in another way, a value is the same."""
    (comment,) = replace_labels((), {"city": "Ko\u0308ln\u00a0 West"})
    assert find_label([comment], "city") == "Köln West"


def test_training_and_translation_read_the_same_comments(tmp_path: Path) -> None:
    """Of JSON lines whose `comments` are no lines as in CoNLL-U, neither reads any."""
    path = tmp_path / "x.jsonl"
    comments: list[list[object]] = [["# n = 1", "# m = 2"], ["# n = 1", 5], [" n = 1"], []]
    lines = [json.dumps({"text": "a", "comments": row}) for row in comments]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    in_translation = [list(sentence.comments) for sentence in parse_jsonl(lines, "x", [])]
    assert list(read_comments(path, "jsonl")) == in_translation == [comments[0], [], [], []]


def test_pieces_of_several_words_have_one_value() -> None:
    """Not `formal+formal`, which would be another value, by default or by a setting."""
    settings = FeatureConfig(column="sentence.formality")
    assert choose_kind("formality", settings).choose_cover(of_morphemes=True) == "first"
    settings.cover = "join"
    with pytest.raises(UserError, match="cannot be joined; set cover=first"):
        choose_kind("formality", settings).check_settings()


def test_the_text_is_no_value_of_a_sentence() -> None:
    """Training read `# text = ...` as a value, which no sentence in translation has."""
    settings = FeatureConfig(column="sentence.text")
    with pytest.raises(UserError, match=r"^features.whole.column=sentence.text: the comment `# te"):
        choose_kind("whole", settings).check_settings()


def test_a_tag_is_for_whole_sentences() -> None:
    with pytest.raises(UserError, match=r"features.f.policy=tag: is for values of whole sentences"):
        choose_kind("f", FeatureConfig(column="upos", policy="tag")).check_settings()
    kind = choose_kind("f", FeatureConfig(column="sentence.domain", policy="tag"))
    kind.check_settings()
    with pytest.raises(UserError, match="a tag before the sentence cannot be exported"):
        kind.check_exportable()


def test_labels_go_with_their_sentences() -> None:
    sentences = [Sentence("a", (), ("# k = 1", "# k = 2")), Sentence("b", (), ("# x", "# k ="))]
    columns = Sentences.of(sentences, keys=["k"])
    assert columns.labels["k"].to_pylist() == ["1", None]
    again = Sentences.join(
        [columns.take_rows(np.array([1])), columns.rows(np.array([True, False]))]
    )
    assert [s.comments for s in again] == [(), ("# k = 1",)]
