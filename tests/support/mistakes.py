"""A user's folder, and what `train.py` says of mistakes in it, for the tests of bad input."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nmt_feat.errors import UserError
from tests.support.entry import Done, call
from tests.support.small import Small

COMBINERS = """
import torch
from nmt_feat.combiners import Combiner

class Init(Combiner):
    def __init__(self, parts, model_dim):
        super().__init__(parts, model_dim)
        self.side = parts["side"]

class Forward(Combiner):
    def forward(self, parts):
        return parts[0] + parts[5]

class Wide(Combiner):
    def forward(self, parts):
        return torch.cat(list(parts), dim=-1)

class NoForward(Combiner):
    pass

class Needy(Combiner):
    def __init__(self, parts, model_dim, scale):
        super().__init__(parts, model_dim)

class Widths(Combiner):
    def choose_widths(self, parts, model_dim):
        return {"word": model_dim}

class Fraction(Combiner):
    def choose_widths(self, parts, model_dim):
        return {name: model_dim / 2 for name in parts}

class Nothing(Combiner):
    def choose_widths(self, parts, model_dim):
        return {**dict.fromkeys(parts, model_dim // 20), "word": model_dim}
    def forward(self, parts):
        return parts[0]

class Other:
    pass
"""
"""A user's module with every mistake that a combiner can have."""

ANNOTATORS = """
from nmt_feat.corpus.annotators import Annotator
from nmt_feat.corpus.conllu import Sentence

class Fewer(Annotator):
    name = "fewer"
    def fingerprint(self):
        return self.name
    def annotate(self, texts):
        return [Sentence(text) for text in texts[1:]]

class Failing(Fewer):
    name = "failing"
    def annotate(self, texts):
        return 1 / 0

class Plain:
    pass
"""
"""A user's annotators, with mistakes."""

FILES = {
    "mine.py": COMBINERS,
    "tools.py": ANNOTATORS,
    "needs_other.py": "import not_installed",
    "syntax.py": "class Mine(\n",
    "my/combiner/typo.yaml": "_target_: nmt_feat.combiners.Add\ndimm: 3\n",
    "my/combiner/type.yaml": "_target_: nmt_feat.combiners.Gate\nbias: high\n",
    "my/combiner/yaml.yaml": "_target_: [nmt_feat\n",
    "my/features/gender.yaml": "gender: {colum: feats.Gender}\n",
    "my/features/plain.yaml": "gender: feats.Gender\n",
    "my/features/width.yaml": "width: {dim: 3}\n",
    "my/features/word.yaml": "word: {column: upos}\n",
    "my/features/half.yaml": "half: {column: upos}\n",
    "text": "no folder",
}
"""The user's files in the current folder."""


@pytest.fixture
def here(small: Small, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the user's files."""
    monkeypatch.chdir(small.folder)
    monkeypatch.syspath_prepend(small.folder)  # as train.py does
    for name, content in FILES.items():
        path = small.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for name in ("mine", "tools", "needs_other", "syntax"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return small.folder


def line(done: Done, small: Small) -> str:
    """The one line of standard error, after `error: `."""
    assert done.code == 2, done
    assert done.err.startswith("error: "), done.err
    assert done.err.count("\n") == 1, done.err
    assert done.err.endswith("\n")
    text = done.err.removeprefix("error: ").removesuffix("\n")
    return text.replace(str(small.corpus), "CORPUS").replace(str(small.folder), "HERE")


def refuse(small: Small, *arguments: object) -> str:
    """What training is refused with, without the command line, whose settings take a moment."""
    with pytest.raises(UserError) as error:
        small.train(*map(str, arguments))
    text = str(error.value)
    assert "\n" not in text
    return text.replace(str(small.corpus), "CORPUS").replace(str(small.folder), "HERE")


def train(small: Small, *arguments: object) -> str:
    return line(call("train", *small.overrides(*map(str, arguments))), small)
