"""`score.py` with finished runs, streams, and readings told apart by scores."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nmt_feat.config.inference_schema import TranslateConfig
from nmt_feat.runs.trained.model import TrainedModel
from nmt_feat.text.conllu import read_conllu
from nmt_feat.text.files import read_lines
from tests.support.applied import FEW, Runs, good, hypotheses
from tests.support.entry import call
from tests.support.lives import python
from tests.support.small import ROOT, Small, record
from tests.support.splits import encode


def scores(run: Path, source: Path, target: Path) -> list[tuple[float, int]]:
    lines = good(call("score", f"run={run}", f"source={source}", f"target={target}"))
    return [(float(a), int(b)) for a, b in (line.split("\t") for line in lines)]


def test_scores_are_forced_decoding(runs: Runs) -> None:
    """Step by step, as search does, and without its batches."""
    scores_of_file = scores(runs.annotated, runs.conllu, runs.target)
    run, targets = TrainedModel(runs.annotated), read_lines(runs.target)
    sentences = list(read_conllu(runs.conllu))
    assert len(scores_of_file) == len(targets) == len(sentences) == 8
    for sentence, target, (logprob, pieces) in zip(sentences, targets, scores_of_file, strict=True):
        source = encode(run.encoder, sentence)
        ids = [*run.target.encode_ids([target])[0], 3]  # and the end symbol
        features = {name: torch.tensor([row]) for name, row in source.features.items()}
        mask = torch.ones(1, len(source.ids), dtype=torch.bool)
        with torch.no_grad():
            memory = run.model.encode(torch.tensor([source.ids]), features, mask)
            cache, last, total = run.model.start_cache(memory, mask), 2, 0.0  # begins with BOS
            for position, piece in enumerate(ids):
                logits = run.model.decode_step(torch.tensor([last]), position, cache)
                total += float(torch.log_softmax(logits[0].double(), -1)[piece])
                last = piece
        assert pieces == len(ids)
        assert logprob == pytest.approx(total, abs=1e-4)


def test_perplexity_is_that_of_the_scores(runs: Runs) -> None:
    scores_of_file = scores(runs.annotated, runs.conllu, runs.target)
    words = sum(len(line.split()) + 1 for line in read_lines(runs.target))
    expected = math.exp(-sum(logprob for logprob, _ in scores_of_file) / words)
    perplexity = record(runs.annotated)["tests"]["test"]["perplexity"]
    assert perplexity == pytest.approx(expected, rel=1e-5)


@pytest.mark.thorough
def test_search_and_scores_agree(runs: Runs, tmp_path: Path) -> None:
    """The log-probability that the beam reports is what `score.py` gives the same line."""
    folder = Small(runs.conllu.parent, runs.folder / "cache", runs.folder).train(
        "combiner=none",
        "subword=none",  # so that encoding a translation again gives the same ids
        *FEW,
    )
    run, texts = TrainedModel(folder), read_lines(runs.text)
    cfg = TranslateConfig(run="", beam=3)
    translations = run.translate_sentences(
        run.annotation.annotate_texts(texts, None, ""), texts, cfg
    )
    best = [hypotheses[0] for hypotheses in translations]
    (tmp_path / "out.de").write_text("".join(f"{text}\n" for text, _ in best), encoding="utf-8")
    for (_, h), (logprob, pieces) in zip(
        best, scores(folder, runs.text, tmp_path / "out.de"), strict=True
    ):
        assert logprob == pytest.approx(h.logprob, abs=1e-4)
        assert pieces == len(h.ids) + 1


@pytest.mark.thorough
def test_scores_of_tokens_and_of_empty_lines(runs: Runs, tmp_path: Path) -> None:
    command = [f"run={runs.tokenized}", f"source={runs.tokens}", f"target={runs.target}"]
    assert len(good(call("score", *command, f"raw={runs.text}"))) == 8
    (tmp_path / "source").write_text("\nThe dog sleeps.\n")
    (tmp_path / "target").write_text("\nDer Hund schläft.\n", encoding="utf-8")
    for run in (runs.words, runs.tagged):
        first, second = scores(run, tmp_path / "source", tmp_path / "target")
        assert first[1] == 1  # the end symbol
        assert second[1] > 1


# ---- streams


PROGRAM = """
import runpy, sys
import nmt_feat.cli.train_job, nmt_feat.cli.translate

reports_need = "scipy", "jinja2", "matplotlib", "pandas", "nmt_feat.analysis"
sys.stderr.write("".join(name for name in sys.modules if name.startswith(reports_need)))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.thorough
def test_streams(runs: Runs) -> None:
    """A line is translated before the next one is there; a closed pipe is no mistake.

    The commands import nothing that only reports need.
    """
    sentences = runs.text.read_bytes().splitlines(keepends=True)
    expected = hypotheses(runs.words)
    arguments = (ROOT / "translate.py", f"run={runs.words}", "chunk=1", "threads=1")
    command = [sys.executable, "-c", PROGRAM, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        for sentence, translation in zip(sentences[:2], expected, strict=False):
            process.stdin.write(sentence)
            process.stdin.flush()
            assert process.stdout.readline().decode() == f"{translation}\n"
        process.stdout.close()  # as head does
        process.stdin.write(b"".join(sentences))
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


@pytest.mark.thorough
def test_contrastive_reading_accuracy(runs: Runs, tmp_path: Path) -> None:
    """`scripts/contrast.py` finds, of all readings' German, what `score.py` scores highest."""
    blocks = runs.conllu.read_text(encoding="utf-8").strip().split("\n\n")
    german = read_lines(runs.target)
    # Two lines of one English, and its annotation with another part of speech.
    changed = blocks[0].replace("\tDET\t", "\tNOUN\t").replace("\tPRON\t", "\tX\t")
    assert changed != blocks[0]
    source, target = tmp_path / "two.conllu", tmp_path / "two.de"
    source.write_text("\n\n".join([blocks[0], changed, blocks[1], ""]), encoding="utf-8")
    target.write_text("\n".join([german[0], german[1], german[2], ""]), encoding="utf-8")
    right = 0.0
    for block, right_target, wrong_target in (
        (blocks[0], *german[:2]),
        (changed, german[1], german[0]),
    ):
        pair, texts = tmp_path / "pair.conllu", tmp_path / "pair.de"
        pair.write_text("\n\n".join([block, block, ""]), encoding="utf-8")
        texts.write_text(f"{right_target}\n{wrong_target}\n", encoding="utf-8")
        (own_score, _), (other_score, _) = scores(runs.annotated, pair, texts)
        right += own_score > other_score
    command = [ROOT / "scripts" / "contrast.py", runs.annotated, "--source", source]
    done = python(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{right / 2:.1%} of 2 readings are the most probable of their sentence\n"
    target.write_text(f"{german[0]}\n", encoding="utf-8")
    done = python(*command)
    message = f"error: {source} has 3 sentences, {target} has 1; their lines must correspond\n"
    assert (done.returncode, done.stderr) == (2, message)
