"""What is said of encoders that cannot be used, and of settings that are wrong."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from nmt_feat.encoders.states import LanguageModel
from nmt_feat.errors import UserError
from nmt_feat.text.conllu import read_conllu
from tests.support.encoders import corpus_texts, save, settings, transformers  # type: ignore[attr-defined]
from tests.support.entry import call
from tests.support.mistakes import refuse
from tests.support.small import Small


def only_letters(texts: list[str]) -> Tokenizer:
    """Drops what it has not seen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(special_tokens=special))
    return tokenizer


@pytest.mark.thorough
def test_pieces_without_vector(small: Small, tmp_path: Path) -> None:
    texts = [
        sentence.text
        for split in ("train", "dev", "test")
        for sentence in read_conllu(small.corpus / f"{split}.conllu")
    ]
    folder = save(tmp_path / "few", only_letters([text.replace("I", "") for text in texts]))
    command = ["combiner=add", "subword=none", *settings(folder)]
    done = call("train", *small.overrides(*command))
    first = next(text for text in texts if "I" in text.split())
    assert (done.code, done.err) == (
        2,
        f"error: {small.corpus}/train.conllu: features.contextual: the encoder's tokeniser has no "
        f"piece for 'I' of {first!r}; give another encoder, or set "
        "features.contextual.missing=unknown\n",
    )
    done = call("train", *small.overrides(*command, "features.contextual.missing=unknown"))
    assert done.code == 0, done.err
    count = sum(text.split().count("I") for text in corpus_texts(small.corpus))
    assert f"features.contextual: unknown for {count} pieces of train" in done.out


def harm(folder: Path, kind: str) -> None:
    """One thing that is wrong with an encoder."""
    config, weights = folder / "config.json", folder / "model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    if kind == "pickle":
        weights.unlink()
        torch.save(tensors, folder / "pytorch_model.bin")
    elif kind == "code":
        (folder / "mine.py").write_text("raise SystemExit('this ran')")
        names = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}
        config.write_text(json.dumps({"model_type": "mine", "auto_map": names}))
    elif kind == "no config":
        config.unlink()
    elif kind == "no tokeniser":
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()
    elif kind == "slow tokeniser":
        (folder / "tokenizer.json").unlink()
        slow = {"tokenizer_class": "ByT5Tokenizer"}
        (folder / "tokenizer_config.json").write_text(json.dumps(slow))
    elif kind == "another's tokeniser":
        small_model = transformers.AutoModel.from_pretrained(folder)
        small_model.resize_token_embeddings(50)
        small_model.save_pretrained(folder)
    elif kind == "a weight is missing":
        del tensors["encoder.layer.1.output.dense.weight"]
        safetensors.torch.save_file(tensors, weights, {"format": "pt"})
    elif kind == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind in ("nan", "large"):
        value = float("nan") if kind == "nan" else 1e6
        tensors["encoder.layer.1.output.LayerNorm.bias"].fill_(value)
        safetensors.torch.save_file(tensors, weights, {"format": "pt"})
    elif kind == "no folder":
        shutil.rmtree(folder)


GET = "; get it again, with config.json, tokenizer.json and model.safetensors"
HARMS = {
    "pickle": "features.contextual.encoder=ENC: AutoModel cannot read it (Error no file named "
    "model.safetensors found in directory ENC.)" + GET,
    "code": None,
    "no config": None,
    "no tokeniser": "features.contextual.encoder=ENC: has no tokeniser; give a folder with "
    "tokenizer.json, vocab.txt, vocab.json or another vocabulary",
    "another's tokeniser": "features.contextual.encoder=ENC: its tokeniser has more pieces than "
    "its model has embeddings, 50; get it again",
    "slow tokeniser": "features.contextual.encoder=ENC: its tokeniser ByT5Tokenizer does not give "
    "the positions of pieces in the text; give an encoder with a fast one (tokenizer.json)",
    "a weight is missing": "features.contextual.encoder=ENC: model.safetensors lacks 1 weights, "
    "such as encoder.layer.1.output.dense.weight; get it again",
    "cut": None,
    "nan": "features.contextual.encoder=ENC: a vector of TEXT is not finite in float16; give "
    "another layer or encoder, or set precision=float32",
    "large": "features.contextual.encoder=ENC: a vector of TEXT is not finite in float16; give "
    "another layer or encoder, or set precision=float32",
    "no folder": "features.contextual.encoder=ENC: no such folder; give the folder of an "
    "encoder, as hf download NAME --local-dir FOLDER makes it",
}
"""What is said; where `transformers` says why, only the ends are ours."""


@pytest.mark.thorough
@pytest.mark.parametrize("kind", HARMS)
def test_broken_encoders(kind: str, small: Small, encoder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(encoder, tmp_path / "broken")
    harm(folder, kind)
    done = call("train", *small.overrides("combiner=add", *settings(folder)))
    assert (done.code, done.err.count("\n")) == (2, 1), done
    first = corpus_texts(small.corpus)[0]
    message = done.err.replace(str(folder), "ENC").replace(repr(first), "TEXT")
    expected = HARMS[kind]
    if expected is None:
        assert message.startswith("error: features.contextual.encoder=ENC: Auto"), message
        assert message.endswith(f"){GET}\n"), message
    else:
        assert message == f"error: {expected}\n"
    assert not [*small.folder.glob("runs/*/")]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("features.contextual.layer=4",),
            "features.contextual.layer=4: the encoder has the layers 1 to 3, and 0, its "
            "embeddings; give -4 to 3",
        ),
        (
            ("features.contextual.layer=-5",),
            "features.contextual.layer=-5: the encoder has the "
            "layers 1 to 3, and 0, its embeddings; give -4 to 3",
        ),
        (
            ("features.contextual.precision=int8",),
            "features.contextual.precision=int8: unknown; known: float16, float32",
        ),
        (
            ("features.contextual.encoder=null",),
            "features.contextual: nmt_feat.features.Contextual needs an encoder; set "
            "features.contextual.encoder=FOLDER",
        ),
        (
            ("features.contextual._target_=nmt_feat.features.Categorical",),
            "features.contextual.encoder=ENC: goes with _target_=nmt_feat.features.Contextual, not "
            "nmt_feat.features.Categorical",
        ),
        (
            ("features.contextual.column=upos",),
            "nmt_feat.features.Contextual: cannot embed column=upos; its _target_ is Categorical "
            "of nmt_feat.features",
        ),
        (
            ("features.contextual.max_values=5",),
            "features.contextual: an encoder's vectors have no policy, max_values or min_count; "
            "leave them out",
        ),
        (
            ("features.contextual.of=word",),
            "features.contextual.of=word: is for char, syllable, jamo, ngram, form, lower; leave "
            "it out",
        ),
        (
            ("subword=given",),
            "features.contextual: an encoder reads text, not the pieces of another toolkit; "
            "choose another subword than given",
        ),
        (
            ("features=[upos]", "+features.upos.encoder=ENC"),
            "features.upos.encoder=ENC: goes with _target_=nmt_feat.features.Contextual, not "
            "nmt_feat.features.Categorical",
        ),
    ],
)
def test_bad_settings(
    overrides: tuple[str, ...], message: str, small: Small, encoder: Path
) -> None:
    names = {override.partition("=")[0] for override in overrides}
    arguments = [
        o
        for o in settings(encoder)
        if o.partition("=")[0] not in names
        and ("features=[upos]" not in overrides or "contextual" not in o)
    ]
    more = [o.replace("=ENC", f"={encoder}") for o in overrides]
    assert refuse(small, "combiner=add", *arguments, *more).replace(str(encoder), "ENC") == message


def test_places_that_do_not_ascend(encoder: Path) -> None:
    """No tokeniser that is known does so; nothing else would notice."""
    language_model = LanguageModel("bert", str(encoder), -2, "float16")
    original_tokenizer = language_model.tokenizer

    class Turned:
        model_max_length = original_tokenizer.model_max_length
        pad_token_id = original_tokenizer.pad_token_id

        def num_special_tokens_to_add(self) -> int:
            return 2

        def __call__(self, texts: list[str], **how: Any) -> dict[str, Any]:
            coded = dict(original_tokenizer(texts, **how))
            coded["offset_mapping"] = [spans[::-1] for spans in coded["offset_mapping"]]
            return coded

    language_model.tokenizer = Turned()
    with pytest.raises(UserError) as error:
        language_model.encode_texts(["I saw her duck."])
    assert str(error.value) == (
        f"features.bert.encoder={encoder}: its tokeniser cannot be aligned, the places of its "
        "pieces do not ascend in 'I saw her duck.'; give another encoder"
    )


def test_missing_package(small: Small, encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    done = call("train", *small.overrides("combiner=add", *settings(encoder)))
    assert (done.code, done.err) == (
        2,
        "error: an encoder of Hugging Face needs the package transformers: pip install "
        "'nmt_feat[transformers]'\n",
    )
