"""Ensembles: the mean of the members' probabilities, in search, in scoring, in both commands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nmt_feat.base.checksums import check_sums
from nmt_feat.data.batches import collate
from nmt_feat.decoding.ensemble import Ensemble, average_logits
from nmt_feat.decoding.search import SearchOptions, score_batch, search
from nmt_feat.embedders.ids import BOS, EOS, PAD
from nmt_feat.evaluation.scores import score_translations
from nmt_feat.model.batch import Batch
from nmt_feat.runs import additions
from nmt_feat.runs.trained.ensembles import list_members, open_runs
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.files import read_lines
from tests.support import small_methods
from tests.support.entry import call
from tests.support.small import Small, record

WORDS = ("combiner=none", "trainer.max_steps=4")


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of words only, and runs that cannot be in one ensemble or row with them."""
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("ensembles"))
    more = f"data.tests.more={{source: {corpus}/dev.conllu, target: {corpus}/dev.de}}"
    for settings in ("seed=1", "seed=2", "seed=4 decoding.beam=2", "seed=5 subword.vocab_size=190"):
        small.train(*WORDS, *settings.split())
    small.train(*WORDS, "seed=3", more)
    for settings in ("control=shuffled", *(f"features.upos.classes=2 seed={n}" for n in (1, 2))):
        small.train("combiner=add", "trainer.max_steps=2", *settings.split())
    return small.folder / "runs"


@pytest.fixture(scope="module")
def models(runs: Path) -> list[TrainedModel]:
    return [TrainedModel(folder, 1) for folder in sorted(runs.glob("none-s[12]*"))]


def encode(model: TrainedModel, corpus: Path) -> Batch:
    sentences = list(read_conllu(corpus / "test.conllu"))
    where = [str(i) for i in range(len(sentences))]
    split = model.encode_pairs(sentences, read_lines(corpus / "test.de"), where)
    return collate(split, np.arange(len(sentences)), [])


def test_scores_are_of_the_mean_probabilities(models: list[TrainedModel], corpus: Path) -> None:
    batch, members = encode(models[0], corpus), [model.model for model in models]
    probabilities = []
    with torch.inference_mode():
        for member in members:
            memory = member.encode(batch.source, batch.features, batch.source_mask)
            hidden = member.decode(batch.target_in, memory, batch.source_mask)
            probabilities.append(member.compute_logits(hidden).double().softmax(-1))
    mean = (probabilities[0] + probabilities[1]) / 2
    pieces = mean.gather(-1, batch.target_out[..., None])[..., 0].log()
    expected = (pieces * (batch.target_out != PAD)).sum(1)
    scores = score_batch(Ensemble(members), batch)
    assert [logprob for logprob, _ in scores] == pytest.approx(expected.tolist(), rel=1e-5)
    single = score_batch(members[0], batch)
    assert [s for s, _ in single] != pytest.approx([s for s, _ in scores], rel=1e-3)


def test_probabilities_add_up_to_one() -> None:
    logits = torch.randn(3, 5)
    torch.testing.assert_close(average_logits([logits] * 4), logits.log_softmax(-1))


def test_search_and_scoring_agree(models: list[TrainedModel], corpus: Path) -> None:
    batch, ensemble = encode(models[0], corpus), Ensemble([model.model for model in models])
    source = batch.source, batch.features, batch.source_mask
    options = SearchOptions(beam=3, max_ratio=1.0, max_extra=2)
    best = [nbest[0] for nbest in search(ensemble, *source, options)]
    width = max(len(h.ids) for h in best) + 1
    target_in = torch.full((len(best), width), PAD)
    target_out = torch.full_like(target_in, PAD)
    for row, hypothesis in enumerate(best):
        count = len(hypothesis.ids) + 1
        target_in[row, :count] = torch.tensor([BOS, *hypothesis.ids])
        target_out[row, :count] = torch.tensor([*hypothesis.ids, EOS])
    batch = replace(batch, target_in=target_in, target_out=target_out)
    scores = score_batch(ensemble, batch)
    assert [h.logprob for h in best] == pytest.approx([s for s, _ in scores], rel=1e-4)
    alone = search(models[0].model, *source, options)
    twice = search(Ensemble([models[0].model] * 2), *source, options)
    assert [n[0].ids for n in twice] == [n[0].ids for n in alone]


def test_memories_may_be_wider_than_hidden_states() -> None:
    """A decoder that attends to each encoder reads all outputs side by side."""
    source, features, mask = small_methods.batch([5, 3])
    target = torch.tensor([[BOS, 7, 9], [BOS, 8, PAD]])
    names = ("EncodersSerial", "EncodersParallel", "EncodersConcat")
    members = [small_methods.make(name, "", seed) for seed, name in enumerate(names)]
    with torch.inference_mode():
        single = [model.compute_logits(model(source, features, mask, target)) for model in members]
        ensemble = Ensemble(members)
        memory = ensemble.encode(source, features, mask)
        logits = ensemble.compute_logits(ensemble.decode(target, memory, mask))
    torch.testing.assert_close(logits, average_logits(single))


@pytest.mark.thorough
def test_the_command(runs: Path, small: Small, tmp_path: Path) -> None:
    text, one, two = small.corpus / "test.conllu", *sorted(runs.glob("none-s[12]*"))
    outputs = []
    for run in (f"{runs}/none-s[12]*", f"{one},{two}"):
        done = call("translate", f"run={run}", f"input={text}", "nbest=1", "threads=1")
        assert done.code == 0, done.err
        assert f"ensemble of 2 runs: {one}, {two}" in done.err
        outputs.append(done.out)
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == 8
    assert isinstance(open_runs(str(one), 1), TrainedModel)


@pytest.mark.thorough
def test_what_is_refused(runs: Path, small: Small) -> None:
    text, one = small.corpus / "test.conllu", next(iter(runs.glob("none-s1*")))
    for arguments, message in (
        ([f"run={runs}/none-s*"], "has other pieces or values of features than"),
        ([f"run={runs}/gate-*"], "no folder is named"),
        ([f"run={one},nowhere"], "nowhere: no finished run"),
        ([f"run={runs}/none-s[12]*", "engine=ctranslate2"], "translates with one run"),
        ([f"run={runs}/none-s[12]*", f"output={one}/result.json"], "belongs to the run"),
    ):
        done = call("translate", *arguments, f"input={text}")
        assert done.code == 2
        assert message in done.err
        assert done.err.splitlines()[-1].startswith("error: ")


def test_a_run_named_twice_is_one_member(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.parent)
    one, two = sorted(path.name for path in runs.glob("none-s[12]*"))
    assert list_members(f"runs/{one},./runs/none-s[12]*") == [f"runs/{one}", f"./runs/{two}"]


@pytest.mark.thorough
def test_an_ensemble_is_a_row(
    runs: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate_split = additions.evaluate_split  # type: ignore[attr-defined]
    sets = list[str]()

    def stop_before_dev(*arguments: object) -> object:
        sets.append(str(arguments[-1]))
        if sets == ["test", "dev"]:
            raise KeyboardInterrupt
        return evaluate_split(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(additions, "evaluate_split", stop_before_dev)
    asked = (f"run={runs}/none-s[12]*", "ensemble=true")
    assert call("evaluate", *asked).code == 130
    [folder] = runs.glob("none-ensemble2-*")
    assert not (folder / "result.json").exists()
    done = call("evaluate", *asked)
    assert done.code == 0, done.err
    assert sets == ["test", "dev", "dev"]  # what was there is not made again
    assert f"3 of 3 done: {folder}" in done.out
    assert "none, ensemble of 2" in done.out

    ensemble = record(folder)
    one, two = sorted(runs.glob("none-s[12]*"))
    assert [run["folder"] for run in ensemble["members"]] == [f"../{one.name}", f"../{two.name}"]
    assert ensemble["parameters"]["total"] == 2 * record(one)["parameters"]["total"]
    check_sums(folder)
    text = f"input={small.corpus}/test.conllu"
    translated = call("translate", f"run={one},{two}", text, "threads=1")
    assert (folder / "test.hyp").read_text() == translated.out
    for run in (folder, f"{runs}/none-[es][n12]*"):  # a pattern that matches all three
        assert call("translate", f"run={run}", text, "threads=1").out == translated.out
    scores = score_translations(translated.out.splitlines(), read_lines(small.corpus / "test.de"))
    assert ensemble["tests"]["test"]["chrf"] == scores.chrf

    more = ("decoding.beam=2", "metrics=[bleu,chrf,ter,chrf++]")
    assert call("evaluate", *asked, *more).code == 0
    assert sets[-2:] == ["dev@beam2", "test@beam2"]
    assert record(folder)["further"][1]["scores"]["metrics"]["chrF++"]["score"] > 0
    contents = {path: path.read_bytes() for path in folder.iterdir()}
    again = call("evaluate", *asked, *more)
    assert "translating" not in again.out
    assert {path: path.read_bytes() for path in folder.iterdir()} == contents
    alone = call("evaluate", f"run={runs}/none-[es][n12]*")
    assert f"{folder}: is an ensemble; ensemble=true tests its runs together" in alone.out
    refused = call("export", folder)
    assert refused.code == 2
    assert "an ensemble has no weights of its own; give one of its runs" in refused.err


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("none-s1*", "an ensemble needs two runs or more; give several seeds of a row"),
        ("none-s[13]*", "has other test sets (test, more) than"),
        ("none-s[14]*", "was tested by another search than"),
        ("add-deprel+upos-s[12]*", "has other pieces or values of features than"),
        ("*shuffled*", "only controls, whose features differ by seed"),
    ],
)
def test_rows_that_are_no_ensemble(runs: Path, pattern: str, message: str) -> None:
    done = call("evaluate", f"run={runs}/{pattern}", "ensemble=true")
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_other_features_are_no_ensemble(runs: Path) -> None:
    one, two = (next(runs.glob(name)) for name in ("none-s1*", "add-deprel+upos-s1*"))
    done = call("evaluate", f"run={one},{two}", "ensemble=true")
    assert done.code == 2
    assert f"no two of these runs differ only in the seed ({one.name} and {two.name}" in done.err


@pytest.mark.thorough
def test_members_that_read_the_source_in_another_way(small: Small) -> None:
    """Tags among the pieces are for one of them only; features may be for some of them only."""
    features = ("features=[upos]", "trainer.max_steps=2")
    added, tagged, predicting = (
        small.train(*settings.split(), *features)
        for settings in (
            "combiner=add",
            "combiner=none method=interleave",
            "combiner=none method=multitask",
        )
    )
    text = f"input={small.corpus}/test.conllu"
    for pair in (f"{added},{tagged}", f"{tagged},{added}"):
        done = call("translate", f"run={pair}", text)
        assert done.code == 2
        assert "writes features into its source in another way than" in done.err
    one, two = (
        call("translate", f"run={pair}", text, "threads=1")
        for pair in (f"{added},{predicting}", f"{predicting},{added}")
    )
    assert (one.code, two.code) == (0, 0), two.err
    assert one.out == two.out
