"""`translate.py` with finished runs: the same code path as in training."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from nmt_feat.annotators import HanTa
from nmt_feat.cli.hydra_program import INTERRUPTED
from nmt_feat.config.inference_schema import TranslateConfig
from nmt_feat.config.instantiate import module_sum
from nmt_feat.decoding.search import SearchOptions, SentenceSearch
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.factored import SEPARATORS, write_factored
from nmt_feat.text.files import read_lines
from nmt_feat.text.json_lines import write_jsonl
from tests.support.applied import FEW, Runs, files, good, hypotheses, said, translate
from tests.support.entry import call
from tests.support.small import Small

COMBINER = """
from nmt_feat.combiners import Combiner

class Half(Combiner):
    def forward(self, parts):
        return parts[0] + parts[1] / 2
"""

# ---- the same translations as in training


def test_words(runs: Runs) -> None:
    """From a file, from standard input, from CoNLL-U: what the run itself wrote."""
    expected = hypotheses(runs.words)
    assert len(expected) == 8
    assert len(set(expected)) > 1
    assert translate(runs.words, f"input={runs.text}") == expected
    assert translate(runs.words, stdin=runs.text.read_bytes()) == expected
    assert translate(runs.words, f"input={runs.conllu}") == expected


def test_annotated(runs: Runs) -> None:
    expected = hypotheses(runs.annotated)
    assert translate(runs.annotated, f"input={runs.conllu}") == expected
    content = runs.conllu.read_bytes()
    assert translate(runs.annotated, "format=conllu", stdin=content) == expected
    assert translate(runs.annotated, "format=conllu", stdin=content.rstrip()) == expected


@pytest.mark.thorough
def test_other_formats(runs: Runs, tmp_path: Path) -> None:
    """JSON lines keep the text; factored lines are the same as CoNLL-U of tokens between spaces."""
    sentences, factors = list(read_conllu(runs.conllu)), ["deprel", "upos"]
    lines = {"json": tmp_path / "test.jsonl", "spaced": tmp_path / "spaced.conllu"}
    lines["json"].write_text("".join(f"{x}\n" for x in write_jsonl(sentences)))
    assert translate(runs.annotated, f"input={lines['json']}") == hypotheses(runs.annotated)
    scored = f"run={runs.annotated} source={lines['json']} target={runs.target}".split()
    conllu = [*scored[:1], f"source={runs.conllu}", scored[2]]
    assert good(call("score", *scored)) == good(call("score", *conllu))
    content = runs.conllu.read_text().replace("SpaceAfter=No", "_")
    lines_of_text = [line for line in content.splitlines() if not line.startswith("# text")]
    lines["spaced"].write_text("\n".join([*lines_of_text, ""]))
    expected = translate(runs.annotated, f"input={lines['spaced']}")
    for kind in SEPARATORS:
        factored = write_factored(sentences, "x", factors, kind)
        arguments = [f"format={kind}", f"factors=[{','.join(factors)}]"]
        stdin = "\n".join(factored).encode()
        assert translate(runs.annotated, *arguments, stdin=stdin) == expected


@pytest.mark.thorough
def test_text_is_annotated_as_in_training(runs: Runs) -> None:
    expected = hypotheses(runs.tagged)
    assert translate(runs.tagged, f"input={runs.text}") == expected
    windows = b"\xef\xbb\xbf" + runs.text.read_bytes().replace(b"\n", b"\r\n")
    assert translate(runs.tagged, stdin=windows) == expected


def test_tokens_are_annotated_by_their_raw_text(runs: Runs) -> None:
    expected = hypotheses(runs.tokenized)
    translations = translate(runs.tokenized, f"input={runs.tokens}", f"raw={runs.text}", "chunk=3")
    assert translations == expected


RAW = {
    "none": (
        None,
        "{tokens}:1: the run was trained on text annotated by its raw counterpart; give it: "
        "raw=FILE",
    ),
    "fewer": (
        7,
        "{tokens}:1: from here 8 lines of text, but 7 of raw; their lines must correspond",
    ),
    "more": (9, "raw=RAW: has more lines than input={tokens}, 8"),
}


@pytest.mark.thorough
def test_a_line_that_is_not_its_raw_text(runs: Runs, tmp_path: Path) -> None:
    lines = runs.tokens.read_text(encoding="utf-8").splitlines()
    (tmp_path / "tokens").write_text("\n".join([*lines[:4], "†", *lines[5:]]), encoding="utf-8")
    for command, name in (("translate", "input"), ("score", f"target={runs.target}\nsource")):
        arguments = f"{name}={tmp_path / 'tokens'}\nraw={runs.text}".split("\n")
        done = call(command, f"run={runs.tokenized}", *arguments)
        assert done.code == 2
        assert done.err.startswith(f"error: {tmp_path / 'tokens'}:5: the tokens '†' and ")
        assert done.err.endswith(" share no character\n")


@pytest.mark.thorough
@pytest.mark.parametrize("tokenized", [True, False])
def test_raw_text_is_asked_for_where_training_had_it(
    runs: Runs, tmp_path: Path, tokenized: bool
) -> None:
    """Whatever `data.tokenized` says, which is how translations are scored."""
    small = Small(runs.text.parent, tmp_path / "cache", tmp_path)
    chosen = ("features=[upos]", "combiner=add", f"data.tokenized={tokenized}")
    run = small.train(*files(not tokenized), *chosen, *FEW)
    if tokenized:
        assert translate(run, f"input={runs.text}") == hypotheses(run)
    else:
        assert translate(run, f"input={runs.tokens}", f"raw={runs.text}") == hypotheses(run)


@pytest.mark.parametrize("case", RAW)
def test_raw_text_that_does_not_correspond(runs: Runs, tmp_path: Path, case: str) -> None:
    count, message = RAW[case]
    arguments = []
    if count is not None:
        lines = [*runs.text.read_text(encoding="utf-8").splitlines(), "More."][:count]
        (tmp_path / "raw").write_text("\n".join(lines))
        arguments.append(f"raw={tmp_path / 'raw'}")
    message = message.format(tokens=runs.tokens).replace("RAW", str(tmp_path / "raw"))
    done = call("translate", f"run={runs.tokenized}", f"input={runs.tokens}", *arguments)
    assert (done.code, done.err) == (2, f"error: {message}\n")
    if case != "more":
        done = call(
            "score",
            f"run={runs.tokenized}",
            f"source={runs.tokens}",
            f"target={runs.target}",
            *arguments,
        )
        assert (done.code, done.err) == (2, f"error: {message}\n")


# ---- order, empty lines, chunks, n-best


def test_chunks_change_nothing(runs: Runs) -> None:
    text = runs.text.read_bytes()
    expected = hypotheses(runs.words)
    for chunk in (1, 3, 100):
        assert translate(runs.words, f"chunk={chunk}", stdin=text) == expected


@pytest.mark.parametrize("run", ["words", "tagged"])
def test_empty_lines_stay(runs: Runs, run: str) -> None:
    folder: Path = getattr(runs, run)
    lines = runs.text.read_text(encoding="utf-8").splitlines()
    expected = hypotheses(folder)
    text = "\n".join(["", lines[0], " \t", *lines[1:3], "", ""])
    translations = translate(folder, "chunk=2", stdin=text.encode())
    assert translations == ["", expected[0], "", *expected[1:3], ""]
    assert translate(folder, stdin=b"") == []
    assert translate(folder, stdin=b"\n\n") == ["", ""]


def test_empty_tokens_stay(runs: Runs, tmp_path: Path) -> None:
    for name in ("tokens", "text"):
        content = getattr(runs, name).read_text(encoding="utf-8")
        (tmp_path / name).write_text(f"\n{content}", encoding="utf-8")
    arguments = [f"input={tmp_path / 'tokens'}", f"raw={tmp_path / 'text'}"]
    assert translate(runs.tokenized, *arguments) == ["", *hypotheses(runs.tokenized)]


def test_nbest(runs: Runs) -> None:
    lines = translate(runs.words, f"input={runs.text}", "nbest=3", "chunk=5")
    rows = [line.split(" ||| ") for line in lines]
    assert [int(number) for number, _, _ in rows] == [i for i in range(8) for _ in range(3)]
    for i in range(0, len(rows), 3):
        scores = [float(score) for *_, score in rows[i : i + 3]]
        assert scores == sorted(scores, reverse=True)
    single = translate(runs.words, f"input={runs.text}", "beam=3")
    assert [text for _, text, _ in rows[::3]] == single
    assert translate(runs.words, "nbest=2", stdin=b"\n") == ["0 |||  ||| 0.0000"]


def test_length_penalty_beam_and_stop_take_the_place_of_the_runs(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainedModel(runs.words)
    sentence, *_ = runs.text.read_text(encoding="utf-8").splitlines()

    def logprobs(**settings: float | str) -> list[tuple[float, float, int]]:
        cfg = TranslateConfig(run="", nbest=4, **settings)  # type: ignore[arg-type]
        sentences = run.annotation.annotate_texts([sentence], None, "")
        (translations,) = run.translate_sentences(sentences, ["input:1"], cfg)
        return [(h.score, h.logprob, len(h.ids) + 1) for _, h in translations]

    for score, logprob, length in logprobs():
        assert score == pytest.approx(logprob / length)
    for score, logprob, _ in logprobs(length_penalty=0.0):
        assert score == pytest.approx(logprob)
    assert logprobs(beam=4) == logprobs()
    assert logprobs(beam=6)[0][0] >= logprobs()[0][0] - 1e-6
    stops: set[str] = set()
    is_decided = SentenceSearch.is_decided

    def record_stop(self: SentenceSearch, options: SearchOptions) -> bool:
        stops.add(options.stop)
        return is_decided(self, options)

    monkeypatch.setattr(SentenceSearch, "is_decided", record_stop)
    logprobs()
    logprobs(stop="likely")
    assert stops == {"proven", "likely"}


def test_output_file(runs: Runs, tmp_path: Path) -> None:
    path = tmp_path / "out.de"
    assert translate(runs.words, f"input={runs.text}", f"output={path}") == []
    assert read_lines(path) == hypotheses(runs.words)
    arguments = [f"source={runs.text}", f"target={runs.target}"]
    scores = good(call("score", f"run={runs.words}", *arguments))
    assert good(call("score", f"run={runs.words}", *arguments, f"output={path}")) == []
    assert read_lines(path) == scores
    packed = path.with_suffix(".gz")
    assert translate(runs.words, f"input={runs.text}", f"output={packed}") == []
    assert read_lines(packed) == hypotheses(runs.words)


@pytest.mark.thorough
def test_output_that_is_read(runs: Runs, tmp_path: Path) -> None:
    """Nothing is written over the input, whatever its name, nor over the run."""
    text, target = tmp_path / "text", tmp_path / "target"
    shutil.copy(runs.text, text)
    shutil.copy(runs.target, target)
    (link := tmp_path / "link").symlink_to(text)
    (hard := tmp_path / "hard").hardlink_to(target)
    weights = runs.words / "model.safetensors"
    before = {path: path.read_bytes() for path in (text, target, weights)}
    for command, output, source in (
        ("translate", text, text),
        ("translate", link, text),
        ("translate", weights, weights),
        ("score", link, text),
        ("score", hard, target),
    ):
        names = ("input",) if command == "translate" else ("source", "target")
        read = [f"{name}={path}" for name, path in zip(names, (text, target), strict=False)]
        message = f"output={output}: is {source}, which the command reads; give another file"
        done = call(command, f"run={runs.words}", *read, f"output={output}")
        assert (done.code, done.out, done.err) == (2, "", f"error: {message}\n")
    record = [runs.words / name for name in ("test.hyp", "result.json", "test.counts.parquet")]
    contents = [path.read_bytes() for path in record]
    for path in record:
        done = call("translate", f"run={runs.words}", f"input={text}", f"output={path}")
        message = f"output={path}: is {path}, which belongs to the run; give another file"
        assert (done.code, done.out, done.err) == (2, "", f"error: {message}\n")
    assert [path.read_bytes() for path in record] == contents
    assert {path: path.read_bytes() for path in before} == before


def test_an_interrupted_translation_leaves_the_output(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "out", TrainedModel.translate_sentences
    path.write_text("before\n", encoding="utf-8")

    def interrupted(self: TrainedModel, *arguments: Any) -> Any:
        if ":5" in arguments[1][0]:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(TrainedModel, "translate_sentences", interrupted)
    done = call("translate", f"run={runs.words}", f"input={runs.text}", f"output={path}", "chunk=4")
    assert (done.code, done.err.splitlines()) == (130, [INTERRUPTED])
    assert path.read_text(encoding="utf-8") == "before\n"
    assert list(tmp_path.iterdir()) == [path]


# ---- the run's folder is enough


def test_a_moved_run_needs_nothing_else(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the corpus nor the cache, nor the folder in which it was trained."""
    shutil.copytree(runs.tagged, tmp_path / "moved")
    text = runs.text.read_bytes()
    folders = [runs.folder, runs.conllu.parent]
    away = [path.rename(path.with_name(f"{path.name}.away")) for path in folders]
    try:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert translate(Path("../moved"), stdin=text) == hypotheses(tmp_path / "moved")
        assert list(Path(".").iterdir()) == []  # nothing is left behind
    finally:
        for path, old in zip(away, folders, strict=True):
            path.rename(old)


def test_another_version_of_the_annotator_is_said(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (runs.tagged / "annotator" / "FINGERPRINT").read_text(encoding="utf-8").strip()
    assert before.startswith("hanta HanTa=")
    monkeypatch.setattr(HanTa, "fingerprint", lambda self: "hanta HanTa=99")
    done = call("translate", f"run={runs.tagged}", f"input={runs.text}")
    assert (done.code, done.out.split("\n")[:-1]) == (0, hypotheses(runs.tagged))
    assert said(done) == f"the training text was annotated by {before}; here is hanta HanTa=99\n"


@pytest.mark.slow
def test_the_annotators_model_is_kept(runs: Runs, udpipe_model: Path) -> None:
    """UDPipe's is a file of the user's: it is copied, and its sum is checked."""
    small = Small(runs.text.parent, runs.folder / "udpipe", runs.folder / "udpipe")
    model = udpipe_model
    few = [o for o in files(False) if not o.startswith("annotator=")]
    more = ("annotator=udpipe", f"annotator.model={model}", "features=[upos,deprel]", *FEW)
    run = small.train(*few, *more, "combiner=add")
    model_copy = run / "annotator" / model.name
    assert model_copy.read_bytes() == model.read_bytes()
    assert translate(run, f"input={runs.text}") == hypotheses(run)
    model_copy.write_bytes(model_copy.read_bytes()[:-1])
    done = call("translate", f"run={run}", f"input={runs.text}")
    assert done.err.startswith(
        f"error: {model_copy}: damaged, its SHA-256 is not the one in SHA256SUMS;"
    )


@pytest.mark.thorough
def test_ones_own_combiner_must_be_importable(
    runs: Runs, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "without").mkdir()
    (tmp_path / "with" / "halves.py").write_text(COMBINER)
    monkeypatch.chdir(tmp_path / "with")
    small = Small(corpus, corpus.parent / "cache", tmp_path)
    command = small.overrides("combiner._target_=halves.Half", "features=[upos]", *FEW)
    assert call("train", *command).code == 0
    (run,) = tmp_path.glob("runs/Half-upos-s1-*")
    monkeypatch.delitem(sys.modules, "halves")
    assert translate(run, f"input={runs.conllu}") == hypotheses(run)
    monkeypatch.delitem(sys.modules, "halves")
    (tmp_path / "with" / "halves.py").write_text(f"{COMBINER}\n# another line\n")
    module_sum.cache_clear()  # as in another process
    done = call("translate", f"run={run}", f"input={runs.conllu}")
    assert done.code == 0
    assert "combiner._target_=halves.Half: its file has changed since the run was" in done.err
    monkeypatch.delitem(sys.modules, "halves")
    monkeypatch.chdir(tmp_path / "without")
    done = call("translate", f"run={run}", f"input={runs.conllu}")
    assert (done.code, done.err) == (
        2,
        "error: _target_=halves.Half: no module 'halves', neither in the current folder nor "
        "installed; known: none\n",
    )
