"""Ensembles: the mean of the members' probabilities, in search, in scoring, in `translate.py`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nmt_feat.data.batches import collate
from nmt_feat.decoding.ensemble import Ensemble, average_logits
from nmt_feat.decoding.search import score_batch, search
from nmt_feat.embedders.ids import BOS, EOS, PAD
from nmt_feat.model.batch import Batch
from nmt_feat.runs.ensembles import open_runs
from nmt_feat.runs.trained_model import TrainedModel
from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.files import read_lines
from tests.support.entry import call
from tests.support.small import Small

WORDS = ("combiner=none", "trainer.max_steps=4")


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, and a run with another vocabulary."""
    small = Small(corpus, corpus.parent / "cache", tmp_path_factory.mktemp("ensembles"))
    for seed in (1, 2):
        small.train(*WORDS, f"seed={seed}")
    small.train(*WORDS, "seed=3", "subword.vocab_size=190")
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
    best = [nbest[0] for nbest in search(ensemble, *source, beam=3, max_ratio=1.0, max_extra=2)]
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
    alone = search(models[0].model, *source, beam=3, max_ratio=1.0, max_extra=2)
    twice = search(Ensemble([models[0].model] * 2), *source, beam=3, max_ratio=1.0, max_extra=2)
    assert [n[0].ids for n in twice] == [n[0].ids for n in alone]


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
