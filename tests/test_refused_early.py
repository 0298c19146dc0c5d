# ruff: noqa: E501
"""What settings alone decide is refused before data is read; `resolve_settings` reads none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from nmt_feat.annotators.base import Annotator
from nmt_feat.annotators.texts import annotate_texts, fingerprint_of
from nmt_feat.errors import UserError
from nmt_feat.runs.setup.resolve import resolve_settings
from nmt_feat.text.conllu import Sentence, Word
from tests.support.mistakes import here
from tests.support.small import Small

__all__ = ["here"]  # a fixture

MINE = """
import torch
from torch import nn
from nmt_feat.combiners import Combiner
from nmt_feat.methods import Method
from nmt_feat.corpus.annotators import Annotator
from nmt_feat.corpus.conllu import Sentence

class Nameless(Annotator):
    def fingerprint(self):
        return "nameless"
    def annotate(self, texts):
        return [Sentence(text) for text in texts]

class Tags(Nameless):
    name = "tags"
    columns = ("upos",)
    languages = ("de", "nl")

class German(Tags):
    languages = ("de",)

class English(Tags):
    languages = None

class Abstract(Annotator):
    name = "abstract"

class NoSuper(Combiner):
    def __init__(self, parts, model_dim):
        nn.Module.__init__(self)

class ReturnsNone(Combiner):
    def forward(self, parts):
        pass

class Whole(Combiner):
    def forward(self, parts):
        return parts[0].long()

class Tuple(Combiner):
    def forward(self, parts):
        return parts[0], None

class Weights(Combiner):
    def forward(self, parts):
        return sum(parts)
    def weights_of(self, parts):
        return parts[0]

class Added(Combiner):
    def forward(self, parts):
        return sum(parts)
    def contributions_of(self, parts):
        return [part for part in parts]

class Embedder(nn.Module):
    def __init__(self, size, dim, std):
        super().__init__()
    def forward(self, ids):
        return ids

class Broken(Embedder):
    def forward(self, ids):
        return ids.nothing

class Lazy(torch.optim.Optimizer):
    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

class Unsaved(Lazy):
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["name"] = "text"

class Short(Method):
    def change_memory(self, memory, features, mask):
        return memory[:, :-1]

class Forgets(Method):
    def change_memory(self, memory, features, mask):
        pass

class Misses(Method):
    def change_memory(self, memory, features, mask):
        return memory + features["nothing"]

class Scores(Method):
    def bias_attention(self, layer, features):
        return torch.zeros(7, 7)

class Losses(Method):
    def compute_loss(self, memory, features):
        return memory.sum(-1)

class Empty(Method):
    def __init__(self, dim, sizes, embedding=None):
        pass

class NoLogger:
    pass

class Half:
    def __init__(self, project: str):
        pass
"""
"""A user's classes, each with a mistake."""

TEXT = ("data.train.source=a.txt", "data.dev.source=b.txt", "data.tests.test.source=c.txt")
PIPE = (*TEXT, "data.format=pipe", "data.factors=[lemma]")
SETTINGS = {
    "annotator.replace=true annotator=kiwi data.source_lang=ko features=[upos,deprel]": "annotator=kiwi gives lemma, upos, "
    "xpos, not the deprel of features.deprel; leave the feature out, or choose another annotator",
    "annotator.replace=true annotator=kiwi data.source_lang=ko features=[upos,case]": "annotator=kiwi gives lemma, upos, "
    "xpos, not the feats.Case of features.case; leave the feature out, or choose another annotator",
    "annotator.replace=true annotator=hanta features=[head_upos]": "annotator=hanta gives lemma, upos, xpos, not the "
    "head_upos of features.head_upos; leave the feature out, or choose another annotator",
    "annotator.replace=true annotator=hanta features=[upos] +features.ner.column=misc.NER": "annotator=hanta gives lemma, "
    "upos, xpos, not the misc.NER of features.ner; leave the feature out, or choose another "
    "annotator",
    "annotator=kiwi features=[upos]": "annotator=kiwi data.source_lang=en: it annotates ko; choose "
    "another annotator, or correct data.source_lang",
    "annotator._target_=mistaken.German features=[upos]": "annotator=tags data.source_lang=en: it "
    "annotates de; choose another annotator, or correct data.source_lang",
    "annotator.replace=true annotator._target_=mistaken.English features=[lemma]": "annotator=tags gives upos, not the "
    "lemma of features.lemma; leave the feature out, or choose another annotator",
    "annotator._target_=mistaken.Nameless features=[upos]": "mistaken.Nameless: has no name; give "
    'the class one: name = "mine"',
    "data.format=pipe data.factors=[lemma] features=[upos]": "features.upos: its column upos is "
    "not among data.factors=[lemma]; leave the feature out, or give its column",
    "data.format=ffe8 data.factors=[feats.Case] features=[number]": "features.number: its column "
    "feats.Number is not among data.factors=[feats.Case]; leave the feature out, or give its column",
    "control=shuffled features=[char,ngram]": "control=shuffled: only pieces determine char, ngram; "
    "choose features of words, or control=none",
    "control=by_type features=[subword_tag]": "control=by_type: only pieces determine subword_tag; "
    "choose features of words, or control=none",
    "control=resampled features=[jamo,syllable]": "control=resampled: only pieces determine jamo, "
    "syllable; choose features of words, or control=none",
    "model.dim=24 model.heads=2 features=[upos,xpos,deprel,feats,case,number,shape,head_upos]": ""
    "concat leaves the word 0 of the model's width 24: case 3 + deprel 3 + feats 3 + head_upos 3 + "
    "number 3 + shape 3 + upos 3 + xpos 3 = 24; make features.<name>.dim smaller or model.dim "
    "larger",
    "optimizer._target_=torch.optim.SparseAdam": "optimizer._target_="
    "torch.optim.SparseAdam: an update fails (torch.optim.sparse_adam.SparseAdam, line ",
    "optimizer._target_=mistaken.Lazy": "optimizer._target_=mistaken.Lazy: an update fails "
    "(mistaken.Lazy: NotImplementedError); choose another",
    "optimizer._target_=mistaken.Unsaved": "optimizer._target_=mistaken.Unsaved: an update fails (",
    "combiner._target_=mistaken.NoSuper": "mistaken.NoSuper: has no widths; begin its __init__ "
    "with super().__init__(parts, model_dim)",
    "combiner._target_=mistaken.ReturnsNone": "mistaken.ReturnsNone: forward returns None; return a "
    "tensor of floats",
    "combiner._target_=mistaken.Whole": "mistaken.Whole: forward returns a tensor (2, 3, 16) of "
    "torch.int64; return a tensor of floats",
    "combiner._target_=mistaken.Tuple": "mistaken.Tuple: forward returns a tuple; return a tensor "
    "of floats",
    "combiner._target_=mistaken.Weights": "mistaken.Weights: weights_of returns (2, 3, 16) for batch 2 and "
    "time 3; return (2, 3, 3, 16): a number for each part and element, or None",
    "combiner._target_=mistaken.Added": "mistaken.Added: contributions_of returns a list; return a "
    "tensor, or None",
    "features.upos._target_=mistaken.Embedder": "mistaken.Embedder: forward returns a tensor (2, 3) "
    "of torch.int64 for ids (2, 3); return a tensor of floats (2, 3, dim)",
    "features.upos._target_=mistaken.Broken": "mistaken.Broken, line ",
    "method._target_=mistaken.Short": "mistaken.Short: change_memory returns a tensor (2, 2, 16) of "
    "torch.float32 for batch 2 and time 3; return a tensor of floats (2, 3, 16)",
    "method._target_=mistaken.Forgets": "mistaken.Forgets: change_memory returns None for batch 2 and "
    "time 3; return a tensor of floats (2, 3, 16)",
    "method._target_=mistaken.Misses": "mistaken.Misses, line ",
    "method._target_=mistaken.Scores": "mistaken.Scores: bias_attention returns a tensor (7, 7) of "
    "torch.float32 for batch 2 and time 3; return a tensor (2, 1, 3, 3), or None",
    "method._target_=mistaken.Losses": "mistaken.Losses: compute_loss returns a tensor (2, 3) of "
    "torch.float32; return one number, the sum over the batch, or None",
    "method._target_=mistaken.Empty": "method._target_=mistaken.Empty: has no embedding; begin its "
    "__init__ with super().__init__(dim, sizes, embedding)",
    "logger.mine._target_=mistaken.NoLogger": "_target_=mistaken.NoLogger: must be derived from "
    "nmt_feat.runs.loggers.Logger",
    "annotator=hanta annotator.args.language=true": "nmt_feat.annotators.HanTa: the argument "
    "'language' is text, and True was read as a truth value; write it in quotes "
    "('language=\"...\"' on the command line, '...' in YAML)",
    # not finite, or too large
    "trainer.clip_norm=inf": "trainer.clip_norm=inf: must be finite; give a number, a large one if "
    "need be",
    "data.max_ratio=inf": "data.max_ratio=inf: must be finite; give a number, a large one if need "
    "be",
    "model.embedding_std=inf": "model.embedding_std=inf: must be finite; give a number, a large one "
    "if need be",
    "trainer.clip_norm=nan": "trainer.clip_norm=nan: must be finite; give a number, a large one if "
    "need be",
    "combiner=gate combiner.bias=-inf": "combiner.bias=-inf: must be finite; give a number, a large "
    "one if need be",
    "combiner=gate +combiner.args.x=[1,nan]": "combiner.args.x[1]=nan: must be finite; give a "
    "number, a large one if need be",
    "decoding.beam=100000": "decoding.beam=100000: must be 1 to 1000",
    "trainer.threads=100000": "trainer.threads=100000: must be 0 to 1024",
}


@pytest.fixture
def mine(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder with the classes above."""
    (here / "mistaken.py").write_text(MINE)
    monkeypatch.delitem(sys.modules, "mistaken", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return here


@pytest.mark.parametrize("command", SETTINGS)
def test_settings(small: Small, mine: Path, command: str) -> None:
    for annotator, package in (("kiwi", "kiwipiepy"), ("hanta", "HanTa")):
        if annotator in command:
            pytest.importorskip(package)
    arguments = command.split()
    if not any(argument.startswith("combiner") for argument in arguments):
        arguments.append("combiner=concat")
    with pytest.raises(UserError) as error:
        resolve_settings(small.config(*arguments), False, Console(quiet=True))
    assert str(error.value).startswith(SETTINGS[command])
    assert not SETTINGS[command].endswith(")") or str(error.value) == SETTINGS[command]


@pytest.mark.parametrize(
    "command",
    [
        "annotator._target_=mistaken.Tags data.source_lang=de-AT features=[upos,char]",
        "annotator._target_=mistaken.German annotator=none features=[lemma]",
        "annotator=none data.format=pipe data.factors=[feats] features=[case]",
        "annotator=none data.format=pipe data.factors=[feats.Case] features=[feats]",
        "control=shuffled features=[upos,char]",
        "control=shuffled features=[char] features.char.of=word",
        "decoding.beam=1000",
        "trainer.threads=1024",
    ],
)
def test_what_goes_together(small: Small, mine: Path, command: str) -> None:
    cfg = small.config(*[part for part in command.split() if "=none" not in part], "combiner=add")
    if "=none" in command:
        cfg.annotator._target_ = None
    resolve_settings(cfg, False, Console(quiet=True))


@pytest.mark.parametrize("width", [3, 16])
def test_vectors_outside_of_what_concat_leaves(small: Small, here: Path, width: int) -> None:
    """The word has 12 to 15 of 16 numbers, whatever the corpus says of upos and deprel."""
    (here / "vectors").write_text("I" + " 1" * width + "\n")
    cfg = small.config("combiner=concat", "model.source_vectors=vectors")
    message = f"^model.source_vectors=vectors: its vectors have {width} numbers"
    with pytest.raises(UserError, match=message):
        resolve_settings(cfg, False, Console(quiet=True))


class Odd(Annotator):
    """Gives what it is told."""

    name = "odd"

    def __init__(self, result: object) -> None:
        self.result = result

    def fingerprint(self) -> str:
        return 3  # type: ignore[return-value]

    def annotate(self, texts: object) -> list[Sentence]:
        return self.result  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "TypeError: annotate returns None, not a list of sentences"),
        ("ab", "TypeError: annotate returns 'ab', not a list of sentences"),
        (["a b"], "AttributeError: 'str' object has no attribute 'text'"),
        ([Sentence("a b", ("a", "b"))], "annotator=odd: 'a' of 'a b' is not a "
         "nmt_feat.text.conllu.Word; make it one"),
        ([Sentence("a b", (Word("a", 0, 1, upos=None),))], "annotator=odd: the word 'a' of 'a b' "
         "has a value that is not text, or is empty; give text, and _ for no value"),
        ([Sentence("a b", (Word("a", 0, 9),))], "annotator=odd: the word 'a' stands at 0 to 9 of "
         "'a b'; give words in the order of the text, with spans inside of it"),
        ([Sentence("a b", (Word("b", 2, 3), Word("a", 0, 1)))], "annotator=odd: the word 'a' stands "
         "at 0 to 1 of 'a b'; give words in the order of the text, with spans inside of it"),
        ([Sentence("a b", (Word("a", 0, 1, head=2),))], "annotator=odd: the head of 'a' of 'a b' "
         "is 2; give the number of one of its 1 words, 0 for the root, -1 for none"),
    ],
)  # fmt: skip
def test_what_an_annotator_must_give(result: object, message: str) -> None:
    with pytest.raises(UserError) as error:
        annotate_texts(Odd(result), ["a b"])
    assert str(error.value).endswith(message)
    with pytest.raises(UserError, match="annotator=odd: its fingerprint is 3; return text"):
        fingerprint_of(Odd(result))
