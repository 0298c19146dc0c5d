"""Fine-tuning a pretrained model by the trainer's other ways: bf16, accumulation, processes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("transformers", reason="needs the extra transformers")

from tests.support.pretrained import make_marian
from tests.support.small import Small, assert_equal_to_rounding, outcome, record
from tests.support.stops import stop

pytestmark = pytest.mark.slow

SETTINGS = ("combiner=gate", "features=[upos]", "model=pretrained")
SETTINGS += ("model.encoder_layers=2", "model.decoder_layers=2")
LORA = ("init.lora.rank=4", "init.lora.dropout=0.3")


@pytest.fixture(scope="module")
def marian(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"model.folder={make_marian(tmp_path_factory.mktemp('pretrained') / 'marian', corpus)}"


@pytest.mark.parametrize("more", [(), LORA, ("trainer.accumulate=2",)])
def test_bf16(small: Small, marian: str, more: tuple[str, ...]) -> None:
    """Exact resume; the loss on dev, which is computed in fp32, is near that of a run in fp32."""
    settings = (*SETTINGS, marian, *more)
    bf16 = (*settings, "trainer.precision=bf16-mixed")
    expected, in_fp32 = small.whole(*bf16), small.whole(*settings)
    stop(small, *bf16)
    assert outcome(small.train(*bf16)) == expected
    losses, losses_in_fp32 = (
        [point["loss"] for point in one["curve"]] for one in (expected, in_fp32)
    )
    assert losses != losses_in_fp32
    assert losses == pytest.approx(losses_in_fp32, rel=0.02)


@pytest.mark.parametrize("more", [(), ("init.freeze=[encoder]",), ("init.lora.rank=4",)])
def test_processes(small: Small, marian: str, more: tuple[str, ...]) -> None:
    """Two processes train as one with two batches an update; dropout, which differs, is off."""
    plain = ("model.dropout=0", "model.activation_dropout=0", "model.attention_dropout=0")
    settings = (*SETTINGS, marian, *plain, "trainer.validate_every=1", *more)
    with small.elsewhere("one") as twin:
        one = twin.train(*settings, "trainer.accumulate=2")
    two = small.train(*settings, "trainer.devices=2")
    assert record(two)["updates"] == 6
    assert_equal_to_rounding(one, two)
