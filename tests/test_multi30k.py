"""Very small runs on real text, in the folder that NMT_FEAT_DATA names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.entry import call
from tests.support.small import Small, record

DATA = os.environ.get("NMT_FEAT_DATA")
COLUMNS = ("upos", "xpos", "deprel", "feats", "lemma", "subword_tag")
LIMITS = (
    "data.limit=200",
    "subword.vocab_size=600",
    "trainer.max_steps=2",
    "trainer.validate_every=2",
    "annotator=udpipe",
)


@pytest.fixture(scope="module")
def multi30k(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Very small runs on Multi30k; its English is annotated once."""
    pytest.importorskip("ufal.udpipe")
    if not DATA:
        pytest.skip("NMT_FEAT_DATA is not set")
    folder = tmp_path_factory.mktemp("multi30k")
    return Small(Path(DATA) / "multi30k", folder / "cache", folder)


def model_of(language: str) -> str:
    names = {"en": "english-ewt", "de": "german-gsd-pud-lit"}
    return f"annotator.model={DATA}/models/{names[language]}.udpipe"


@pytest.mark.data
@pytest.mark.parametrize("pair", [("en", "de"), ("de", "en"), ("en", "fr"), ("en", "cs")])
def test_multi30k(multi30k: Small, pair: tuple[str, str]) -> None:
    source, target = pair
    languages = (f"data.source_lang={source}", f"data.target_lang={target}")
    more = ("data=multi30k", *languages, model_of(source), "features=[upos,deprel]")
    folder = multi30k.train(*LIMITS, *more, "combiner=gate")
    result = record(folder)
    assert list(result["tests"]) == ["test2016"]
    assert len((folder / "test2016.hyp").read_text(encoding="utf-8").splitlines()) == 1000
    assert "tok:13a" in result["tests"]["test2016"]["bleu_signature"]


@pytest.mark.data
def test_multi30k_tok(multi30k: Small) -> None:
    folder = multi30k.train("experiment=multi30k_tok", *LIMITS, model_of("en"), "combiner=gate")
    result = record(folder)
    assert result["features"] == ["deprel", "lemma", "upos"]
    signature = result["tests"]["test2016"]["bleu_signature"]
    assert "tok:none" in signature
    assert "case:lc" in signature
    assert (folder / "annotator" / "english-ewt.udpipe").is_file()


@pytest.mark.data
def test_single_features(multi30k: Small) -> None:
    """One command: each feature of UDPipe alone and all together."""
    command = multi30k.overrides("experiment=single_features", "seed=1", *LIMITS, model_of("en"))
    done = call("train", "-m", *command)
    assert done.code == 0, done.err
    results = [record(path.parent) for path in multi30k.folder.glob("runs/*/result.json")]
    swept = {(r["method"], *r["features"]) for r in results if r["method"] in ("none", "concat")}
    assert swept == {
        ("none",),
        ("concat", *sorted(COLUMNS)),
        *(("concat", name) for name in COLUMNS),
    }
