"""Export to CTranslate2: the same probabilities, the same translations, whatever the combiner."""

from __future__ import annotations

import dataclasses
import errno
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nmt_feat.combiners import Add, Average, Concat, NoFeatures
from nmt_feat.config.schema import DecodingConfig
from nmt_feat.data.store import EncodedSplit
from nmt_feat.embedders.categorical import make_table
from nmt_feat.embedders.ids import EOS
from nmt_feat.errors import UserError
from nmt_feat.evaluation.split_decoding import score_split, translate_split
from nmt_feat.export.ctranslate2 import (
    LONGEST,
    QUANTIZATIONS,
    Exported,
    Tuples,
    export_model,
    fold_tables,
    list_tuples,
    stack_columns,
)
from nmt_feat.features import Categorical, Linear
from nmt_feat.model.embedding import SourceEmbedding, TargetEmbedding
from nmt_feat.model.transformer import Dropouts, Transformer
from tests.support.applied import said
from tests.support.entry import call
from tests.support.methods import SHIPPED
from tests.support.small import Small
from tests.support.splits import Encoded, split_of

pytest.importorskip("ctranslate2")

DIM, SOURCE, TARGET, VALUES = 16, 23, 19, 7
CPU = torch.device("cpu")


def random_split(seed: int, sentences: int, names: list[str], values: int = VALUES) -> EncodedSplit:
    """Pairs of random pieces; features have ids below `values`."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(1, 9, sentences)
    source = [
        Encoded(
            [*generator.integers(4, SOURCE, n).tolist(), EOS],
            {name: [*generator.integers(4, values, n).tolist(), 2] for name in names},
        )
        for n in lengths
    ]
    target = [[*generator.integers(4, TARGET, n).tolist(), EOS] for n in generator.permutation(9)]
    texts = [""] * sentences
    return split_of(source, (target * sentences)[:sentences], texts, texts)


@pytest.fixture(params=SHIPPED)
def model(request: pytest.FixtureRequest) -> Transformer:
    """Random weights, none of which is 0 or 1; it ends its sentences soon."""
    torch.manual_seed(3)
    merge = SHIPPED[request.param]({"word": DIM, "upos": 4, "case": 3}, DIM)
    features: dict[str, nn.Module] = {
        name: Categorical(VALUES, width, 0.5) for name, width in list(merge.widths.items())[1:]
    }
    model = Transformer(
        SourceEmbedding(make_table(SOURCE, merge.widths["word"], 0.3), features, merge, 0.1),
        TargetEmbedding(make_table(TARGET, DIM, 0.3), 0.1),
        dim=DIM,
        ffn_dim=24,
        heads=4,
        encoder_layers=2,
        decoder_layers=3,
        dropouts=Dropouts(0.1, 0.0, 0.0),
    )
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn_like(parameter)
    words = model.target.words.weight.data
    model.decoder_norm.bias.data += 6 * words[EOS]
    words[:EOS] = -5 * words[EOS]  # so improbable that their mass counts for nothing
    return model.eval()


def names_of(model: Transformer) -> list[str]:
    return list(model.source.features)


def own_factors(model: Transformer) -> bool:
    return type(model.source.combiner) in (NoFeatures, Concat, Add, Average)


def tuples_for(model: Transformer, split: EncodedSplit) -> Tuples | None:
    """What the export of `scripts/export.py` takes: nothing where CTranslate2 has the combiner."""
    tables = fold_tables(model.source)
    assert (tables is not None) == own_factors(model)
    return None if tables else list_tuples(split, names_of(model))


@pytest.mark.parametrize("table", [False, True])
def test_probabilities(model: Transformer, tmp_path: Path, table: bool) -> None:
    """CTranslate2 gives each target the log-probability that forced scoring gives it."""
    split = random_split(1, 40, names_of(model))
    tuples = list_tuples(split, names_of(model)) if table else tuples_for(model, split)
    check_probabilities(model, split, tuples, tmp_path / "out")


def check_probabilities(
    model: Transformer, split: EncodedSplit, tuples: Tuples | None, folder: Path
) -> None:
    """The export gives each target the log-probability that forced scoring gives it."""
    names = names_of(model)
    export_model(model, tuples, folder, None)
    exported = Exported(folder, 1)
    rows, bounds = stack_columns(split, names), split.source.offsets
    sources = [
        exported.name_tuples(rows[bounds[i] : bounds[i + 1]], False)[0] for i in range(len(split))
    ]
    targets = [[str(piece) for piece in split.target.row(i)[:-1]] for i in range(len(split))]
    actual = exported.translator.score_batch(sources, targets)
    expected = score_split(model, split, names, 512, CPU)
    for result, (logprob, pieces) in zip(actual, expected, strict=True):
        assert len(result.log_probs) == pieces
        assert sum(result.log_probs) == pytest.approx(logprob, abs=1e-4)


def test_rows_of_a_derived_class_are_not_those_of_its_table() -> None:
    class Doubled(Categorical):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(ids)

    add = Add({"word": DIM, "upos": DIM}, DIM)
    words = make_table(SOURCE, DIM, 1.0)
    for cls, is_folded in ((Categorical, True), (Doubled, False)):
        features: dict[str, nn.Module] = {"upos": cls(VALUES, DIM, 1.0)}
        assert (fold_tables(SourceEmbedding(words, features, add, 0.0)) is not None) == is_folded


def test_a_line_of_numbers(tmp_path: Path) -> None:
    """A feature that is no table of values is in the rows of the pieces and their values."""
    torch.manual_seed(4)
    depth = Linear(VALUES, DIM, 0.5)
    depth.load_numbers([None, None, 1.0, 4.0], [1, 1, 3, 2])
    model = Transformer(
        SourceEmbedding(
            *(
                make_table(SOURCE, DIM, 0.3),
                {"depth": depth},
                Add({"word": DIM, "depth": DIM}, DIM),
            ),
            0.0,
        ),
        TargetEmbedding(make_table(TARGET, DIM, 0.3), 0.0),
        dim=DIM,
        ffn_dim=8,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        dropouts=Dropouts(0.0, 0.0, 0.0),
    ).eval()
    assert fold_tables(model.source) is None
    split = random_split(5, 20, ["depth"])
    check_probabilities(model, split, list_tuples(split, ["depth"]), tmp_path / "out")


def test_greedy_translations(model: Transformer, tmp_path: Path) -> None:
    names = names_of(model)
    split = random_split(2, 40, names)
    export_model(model, tuples_for(model, split), tmp_path / "out", None)
    cfg = DecodingConfig(beam=1, max_extra=30)
    translations, missed, replaced = Exported(tmp_path / "out", 1).translate(
        split, names, cfg, False
    )
    expected = translate_split(model, split, names, cfg, CPU)
    assert (missed, replaced) == ([], [])
    # Random weights repeat themselves for ever in some sentences; the engines cut these elsewhere.
    ended = [i for i, hypotheses in enumerate(expected) if len(hypotheses[0].ids) < 30]
    assert len(ended) >= 15
    for one, second in ((translations[i][0], expected[i][0]) for i in ended):
        assert one.ids == second.ids
        assert one.score == pytest.approx(second.score, abs=1e-4)
        assert one.logprob == pytest.approx(second.logprob, abs=1e-3)


@pytest.mark.thorough
def test_scores_of_beams(model: Transformer, tmp_path: Path) -> None:
    """What CTranslate2's beam finds has the log-probability that forced scoring gives it."""
    names = names_of(model)
    split = random_split(2, 40, names)
    export_model(model, tuples_for(model, split), tmp_path / "out", None)
    cfg = DecodingConfig(beam=4, nbest=2, max_extra=30, length_penalty=0.7)
    translations = Exported(tmp_path / "out", 1).translate(split, names, cfg, False).hypotheses
    ended = [i for i, hypotheses in enumerate(translations) if len(hypotheses[0].ids) < 30]
    assert len(ended) >= 15
    for i in ended:
        assert len(translations[i]) == 2
        assert translations[i][0].score >= translations[i][1].score
        encoded = Encoded(
            split.source.row(i).tolist(),
            {
                name: stack_columns(split, names)[split.source.offsets[i] :, k].tolist()
                for k, name in enumerate(names, 1)
            },
        )
        rows = {n: ids[: len(encoded.ids)] for n, ids in encoded.features.items()}
        best = translations[i][0]
        single = split_of([Encoded(encoded.ids, rows)], [[*best.ids, EOS]], [""], [""])
        ((logprob, pieces),) = score_split(model, single, names, 512, CPU)
        assert best.logprob == pytest.approx(logprob, abs=1e-3)
        assert best.score == pytest.approx(logprob / pieces**0.7, abs=1e-3)


@pytest.mark.parametrize("model", ["gate"], indirect=True)
def test_likely_results_end_the_search(model: Transformer, tmp_path: Path) -> None:
    """As soon as there are as many hypotheses as the beam is wide."""
    names = names_of(model)
    split = random_split(2, 40, names)
    export_model(model, tuples_for(model, split), tmp_path / "out", None)
    exported = Exported(tmp_path / "out", 1)
    proven = DecodingConfig(beam=4, max_extra=30, length_penalty=3.0)
    likely = dataclasses.replace(proven, stop="likely")
    late, soon = (exported.translate(split, names, cfg, False) for cfg in (proven, likely))
    exported.patience = 1
    assert soon == exported.translate(split, names, proven, False) != late


@pytest.mark.parametrize("model", ["gate"], indirect=True)
def test_half_an_export_is_none(
    model: Transformer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = random_split(1, 8, names_of(model))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(OSError, match="No space left"):
            export_model(model, tuples_for(model, split), tmp_path / "out", None)
    assert not (tmp_path / "out").exists()
    export_model(model, tuples_for(model, split), tmp_path / "out", None)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_quantizations() -> None:
    specs = pytest.importorskip("ctranslate2.specs.model_spec")
    assert set(QUANTIZATIONS) == set(specs.ACCEPTED_MODEL_TYPES)


def test_quantized(tmp_path: Path) -> None:
    torch.manual_seed(1)
    words = make_table(SOURCE, 64, 0.3)
    model = Transformer(
        SourceEmbedding(words, {}, NoFeatures({"word": 64}, 64), 0.0),
        TargetEmbedding(make_table(TARGET, 64, 0.3), 0.0),
        dim=64,
        ffn_dim=64,
        heads=4,
        encoder_layers=1,
        decoder_layers=1,
        dropouts=Dropouts(0.0, 0.0, 0.0),
    ).eval()
    split = random_split(3, 10, [])
    for name in ("int8", None):
        export_model(model, list_tuples(split, []), tmp_path / str(name), name)
    sizes = [(tmp_path / name / "model.bin").stat().st_size for name in ("int8", "None")]
    assert sizes[0] < 0.7 * sizes[1]


def test_tuples_that_were_not_exported(tmp_path: Path) -> None:
    """Such sentences are left out, or take their piece's most frequent tuple."""
    torch.manual_seed(4)
    merge = Add({"word": DIM, "upos": DIM}, DIM)
    embedding = SourceEmbedding(
        make_table(SOURCE, DIM, 0.3), {"upos": Categorical(VALUES, DIM, 0.5)}, merge, 0.0
    )
    model = Transformer(
        embedding,
        TargetEmbedding(make_table(TARGET, DIM, 0.3), 0.0),
        dim=DIM,
        ffn_dim=8,
        heads=2,
        encoder_layers=1,
        decoder_layers=1,
        dropouts=Dropouts(0.0, 0.0, 0.0),
    ).eval()
    sources = [([5, 6], [4, 4]), ([5, 6], [5, 4]), ([5, 6], [5, 4]), ([5, 6], [6, 4])]
    encoded = [Encoded([*ids, EOS], {"upos": [*upos, 2]}) for ids, upos in sources]
    split = split_of(encoded, [[EOS]] * 4, [""] * 4, [""] * 4)
    train = split_of(encoded[:3], [[EOS]] * 3, [""] * 3, [""] * 3)
    tuples = list_tuples(train, ["upos"])
    assert sorted(map(tuple, tuples.tolist())) == [(EOS, 2), (5, 4), (5, 5), (6, 4)]
    assert tuples.tolist()[-1] == [5, 4]  # seen once, the others more often
    export_model(model, tuples, tmp_path / "out", None)
    exported, cfg = Exported(tmp_path / "out", 1), DecodingConfig(beam=2)
    translations, missed, replaced = exported.translate(split, ["upos"], cfg, nearest=False)
    assert (missed, replaced) == ([3], [])
    assert translations[3] == []
    translations, missed, replaced = exported.translate(split, ["upos"], cfg, nearest=True)
    assert (missed, replaced) == ([], [3])
    assert translations[3] == translations[1]  # (5, 5) is more frequent than (5, 4)
    strange = split_of([Encoded([9, EOS], {"upos": [4, 2]})], [[EOS]], [""], [""])
    assert exported.translate(strange, ["upos"], cfg, nearest=True) == ([[]], [0], [])
    with pytest.raises(UserError) as error:  # which CTranslate2 takes
        exported.translate(split, ["upos"], DecodingConfig(length_penalty=-1.0), nearest=False)
    assert str(error.value) == "decoding.length_penalty=-1.0: give 0 or more"
    long = Encoded([5] * LONGEST + [EOS], {"upos": [5] * LONGEST + [2]})
    split = split_of([long, encoded[0]], [[EOS]] * 2, [""] * 2, [""] * 2)
    assert exported.translate(split, ["upos"], cfg, nearest=False).missed == [0]


@pytest.mark.parametrize("model", ["add", "gate"], indirect=True)
def test_neighbours_have_no_say_in_the_limit(model: Transformer, tmp_path: Path) -> None:
    """A short sentence that does not end is cut off at its own limit, beside a long one too."""
    words = model.target.words.weight.data
    model.decoder_norm.bias.data -= 12 * words[EOS]  # it never ends its sentences
    words[:EOS] = words[EOS]
    names = names_of(model)
    split = random_split(7, 12, names)
    export_model(model, tuples_for(model, split), tmp_path / "out", None)
    exported = Exported(tmp_path / "out", 1)
    cfg = DecodingConfig(beam=2, max_ratio=2.0, max_extra=60)  # on both sides of a step
    together = exported.translate(split, names, cfg, nearest=False)
    assert together.missed == []
    pieces = np.diff(split.source.offsets) - 1
    assert len(set(pieces.tolist())) > 4
    for i, best in enumerate(together.hypotheses):
        assert len(best[0].ids) == 2 * pieces[i] + 60


def test_export_and_translate(small: Small, tmp_path: Path) -> None:
    """`scripts/export.py`, then `translate.py engine=ctranslate2`; mistakes in one line."""
    run = small.train("combiner=gate", "features=[upos,deprel]", "trainer.max_steps=2")
    source = small.corpus / "train.conllu"
    command = [f"run={run}", f"input={source}", "engine=ctranslate2"]
    done = call("translate", *command)
    missing = f"error: {run / 'ctranslate2'}: no export; create it with: nmt-feat export RUN\n"
    assert (done.code, done.err) == (2, missing)
    exported = call("export", run, "--limit", 0)
    assert exported.code == 2
    assert "is above --limit 0; raise it" in exported.err
    exported = call("export", run, "--quantization", "int9")
    assert exported.code == 2
    assert "--quantization: invalid choice: 'int9'" in exported.err.splitlines()[-1]
    exported = call("export", run)
    assert exported.code == 0, exported.err
    assert "combinations of piece and features: a table of" in exported.out
    again = call("export", run)
    text = f"error: {run / 'ctranslate2'}: already exists; remove it to export again\n"
    assert (again.code, again.err) == (2, text)
    done = call("translate", *command)
    assert (done.code, done.err) == (0, "")  # all of training is there
    assert done.out.count("\n") == 80
    changed = tmp_path / "changed.conllu"
    blocks = source.read_text(encoding="utf-8").split("\n\n")
    changed.write_text(blocks[0].replace("\tPUNCT\t", "\tX\t") + "\n\n", encoding="utf-8")
    done = call("translate", f"run={run}", f"input={changed}", "engine=ctranslate2")
    note = (
        "1 of 1 sentences were translated by the native engine: a combination of piece and "
        "features that training did not have, above 1024 pieces, or a special piece in the output\n"
    )
    assert (done.code, said(done)) == (0, note)
    assert done.out == call("translate", f"run={run}", f"input={changed}").out
    nearest = call(
        "translate", f"run={run}", f"input={changed}", "engine=ctranslate2", "fallback=nearest"
    )
    note = (
        "1 of 1 sentences have a combination of piece and features that training did not have; "
        "the piece's most frequent one was used\n"
    )
    assert (nearest.code, said(nearest)) == (0, note)
    full = call("translate", *command, "refill=true")
    assert full.code == 2
    assert "engine=ctranslate2 refill=true: CTranslate2 has no beam that stays full" in full.err


def test_changed_training_text(small: Small, tmp_path: Path) -> None:
    """The table would be that of another text, and ids those of other values."""
    corpus = shutil.copytree(small.corpus, tmp_path / "corpus")
    fresh_small = Small(corpus, tmp_path / "cache", tmp_path / "folder")
    run = fresh_small.train("combiner=gate", "features=[upos]", "trainer.max_steps=2")
    shutil.copy(corpus / "dev.conllu", corpus / "train.conllu")
    shutil.copy(corpus / "dev.de", corpus / "train.de")
    done = call("export", run)
    assert (done.code, done.err) == (
        2,
        f"error: {run}: the training data, prepared again, is not the data of its training; "
        "restore the same files and the same annotator\n",
    )
    assert not (run / "ctranslate2").exists()


@pytest.mark.thorough
def test_export_of_factors(small: Small, tmp_path: Path) -> None:
    """A concatenation needs no table over tuples, and no sentence is left out."""
    run = small.train("combiner=concat", "features=[upos,deprel]", "trainer.max_steps=2")
    exported = call("export", run, "--limit", 0)
    assert (exported.code, exported.err) == (0, "")
    assert exported.out.startswith("exact for all: ")
    changed = tmp_path / "changed.conllu"
    blocks = (small.corpus / "train.conllu").read_text(encoding="utf-8").split("\n\n")
    changed.write_text(blocks[0].replace("\tPUNCT\t", "\tX\t") + "\n\n", encoding="utf-8")
    done = call("translate", f"run={run}", f"input={changed}", "engine=ctranslate2")
    assert (done.code, said(done)) == (0, "")
    assert done.out == call("translate", f"run={run}", f"input={changed}").out


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("engine=ctranslate", "engine=ctranslate: unknown; did you mean 'ctranslate2'?"),
        ("fallback=none", "fallback=none: unknown; known: native, nearest"),
    ],
)
def test_mistakes(tmp_path: Path, setting: str, message: str) -> None:
    done = call("translate", f"run={tmp_path}", setting)
    assert (done.code, done.err) == (2, f"error: {message}\n")


def test_package_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: Small
) -> None:
    run = small.train("combiner=none", "trainer.max_steps=2")
    (run / "ctranslate2").mkdir()
    (run / "ctranslate2" / "model.bin").touch()
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    source = small.corpus / "test.conllu"
    done = call("translate", f"run={run}", f"input={source}", "engine=ctranslate2")
    message = (
        "an export to CTranslate2 needs the package ctranslate2: "
        "pip install 'nmt_feat[ctranslate2]'"
    )
    assert (done.code, done.err) == (2, f"error: {message}\n")
