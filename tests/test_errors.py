"""Bad input ends in one line that says what, where and how to mend, with exit code 2.

That an error of settings ends so is tested once; the other cases are the errors themselves. In the
messages, `CORPUS` stands for the folder of the data and `HERE` for the current folder.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import sys
from pathlib import Path

import pytest
import torch

import nmt_feat.runs.run
from nmt_feat.errors import suggest
from tests.support.mistakes import here, refuse, train
from tests.support.small import Small

__all__ = ["here"]  # a fixture


# ---- settings

QUOTE = (
    "write name=value without spaces, lists as name=[a,b], and quote what the shell would change"
)
CHOOSE = (
    "no such feature is chosen; choose it by name, features=[upos,deprel], or describe a new one "
    "by features.lemma.column=..."
)
UNSET = ("dev.source", "dev.target", "source_lang", "target_lang", "tests.test.source")
UNSET += ("tests.test.target", "train.source", "train.target")
SETTINGS = {
    # unknown names
    "combiner=gat": "combiner=gat: no such option; did you mean 'gate'?",
    "features=[upos,deprl]": "features=deprl: no such option; did you mean 'deprel'?",
    "data=embeded": "data=embeded: no such option; did you mean 'embedded' or 'embedded_far'?",
    "--config-dir=my features=[gendr]": "features=gendr: no such option; did you mean 'gender'?",
    "-m combiner=gat,add": "combiner=gat: no such option; did you mean 'gate'?",
    "hydra/launcher=slurm": "hydra/launcher=slurm: no such option; known: joblib, submitit_local, "
    "submitit_slurm",
    "--config-name=trian": "config=trian: no such option; did you mean 'train'?",
    "--config-dir=nowhere": "Additional config directory 'HERE/nowhere' not found",
    "combin=gate": "combin: no such setting; did you mean 'combiner'?",
    "lr=0.1": "lr: no such setting; did you mean 'init.lr' or 'optimizer.lr'?",
    "batch_tokens=9": "batch_tokens: no such setting; did you mean 'trainer.batch_tokens' or "
    "'decoding.batch_tokens'?",
    "combiner.dimm=3": "combiner.dimm: no such setting; known: _target_, args, bias, name, widths",
    "model.dims=3": "model.dims: no such setting; did you mean 'dim'?",
    "+trainer.maxsteps=3": "trainer.maxsteps: no such setting; did you mean 'max_steps'?",
    "+features.upos.colum=x": "features.upos.colum: no such setting; did you mean 'column'?",
    "data.tests.test.sorce=x": "data.tests.test.sorce: no such setting; did you mean 'source'?",
    "data.tests.more.source=x": "data.tests.more: no such test set; to add one, give both "
    "data.tests.more.source=... and data.tests.more.target=...",
    "features.lemma.dim=3": f"features.lemma: {CHOOSE}",
    "+features.lemma={dim:3}": f"features.lemma: {CHOOSE}",
    "combiner.args.scale=3": "combiner.args.scale: is not there yet; to add it, write "
    "+combiner.args.scale=...",
    "--config-dir=my combiner=typo": "combiner/typo.yaml: combiner.dimm: no such setting; known: "
    "_target_, args, bias, name, widths",
    "--config-dir=my features=[gender]": "features/gender.yaml: features.gender.colum: no such "
    "setting; did you mean 'column'?",
    # unreadable
    "features=[upos": "features=[upos: cannot be read (no viable alternative at input '[upos'); "
    + QUOTE,
    "model.dim": "model.dim: cannot be read (Error parsing override 'model.dim' missing EQUAL at "
    f"'<EOF>'); {QUOTE}",
    "annotator.model=~/en.udpipe": "annotator.model=~/en.udpipe: cannot be read "
    "(LexerNoViableAltException: annotator.model=~/en.udpipe ^); write "
    "annotator.model=$HOME/en.udpipe",
    "data.folder=texts(1)/en": "data.folder=texts(1)/en: no such folder",
    "--combiner=add": "--combiner=add: settings have no dashes; write combiner=add",
    "--trainer.max_steps 9": "--trainer.max_steps: settings have no dashes; write "
    "trainer.max_steps=...",
    "-m combiner=gate, add": f"add: cannot be read (Error parsing override 'add' missing EQUAL at "
    f"'<EOF>'); {QUOTE}",
    "combiner=gate,add": "combiner=gate,add: several options; put -m before it for a sweep",
    "combiner=[gate,add]": "combiner=[gate,add]: a run has one of them; choose one, or put -m "
    "before combiner=gate,add for a sweep",
    "model.dim=1,2": "model.dim=1,2: several values; put -m before it for a sweep, or brackets "
    "around a list",
    "model=3": "model=3: no such option; known: base, big, mini, pretrained, small, tiny",
    "--config-dir=my combiner=yaml": "the settings cannot be read: while parsing a flow sequence "
    "in \"HERE/my/combiner/yaml.yaml\", line 1, column 11 expected ',' or ']', but got "
    "'<stream end>' in \"HERE/my/combiner/yaml.yaml\", line 2, column 1",
    # types
    "model.dim=abc": "model.dim=abc: not a whole number",
    "seed=1.5": "seed=1.5: not a whole number",
    "seed=null": "seed=null: needs a value",
    "model.dim=null": "model.dim=null: needs a value",
    "data.target_lang=null": "data.target_lang=null: needs a value; for the text null write "
    "'data.target_lang=\"null\"'",
    "model.dropout=much": "model.dropout=much: not a number",
    "trainer.progress=perhaps": "trainer.progress=perhaps: give true or false",
    "optimizer.betas=3": "optimizer.betas: is a list; write optimizer.betas=[a,b]",
    "optimizer.betas=[a,b]": "optimizer.betas[0]=a: not a number",
    "combiner.args=3": "combiner.args: is a dictionary; write combiner.args={name:value}",
    "--config-dir=my combiner=type": "combiner/type.yaml: combiner.bias=high: not a number",
    "--config-dir=my features=[plain]": "features/plain.yaml: features.gender: has settings of its "
    "own; write {name: value}",
    # missing
    "data=files": f"required, but not set: {', '.join(f'data.{name}' for name in UNSET)}; "
    "give data.dev.source=...",
    "--config-dir=my features=[width]": "required, but not set: features.width.column; give "
    "features.width.column=...",
    "features=[]": "features=[]: the combiner has nothing to merge; choose features, for instance "
    "features=[upos,deprel], or combiner=none",
    "~data.tests.test": "data.tests is empty; give a test set, as conf/data/files.yaml does",
    # forms that Hydra has, too, but not for these settings
    "combiner=null": "combiner=null: has to name an option; leave it out for the default",
    "features=null": "features=null: has to name an option; write features=[] for none",
    "-m combiner=null,add": "combiner=null,add: has to name an option; leave it out for the "
    "default",
    "~features": "~features: write features=[] for none of them",
    "~data.tests": "~data.tests: a setting cannot be removed; give it another value",
    "+combiner=gate": "combiner: has an option already; write it without +",
    "++combiner=gate": "++combiner=gate: write it without +",
    "-m paths.runs= seed=1,2": "paths.runs=: give the name of a folder, or leave it out",
    # bounds and choices
    "model.dim=0": "model.dim=0: must be at least 1",
    "model.dropout=1": "model.dropout=1.0: must be in [0, 1)",
    "decoding.max_ratio=inf": "decoding.max_ratio=inf: must be finite; give a number, a large "
    "one if need be",
    "seed=-1": "seed=-1: must be at least 0",
    "data.processes=-3": "data.processes=-3: must be at least 0",
    "optimizer.betas=[0.9]": "optimizer.betas=[0.9]: must be two numbers in [0, 1)",
    "optimizer.betas=[0.9,1]": "optimizer.betas=[0.9, 1.0]: must be two numbers in [0, 1)",
    "subword.min_count=2": "subword.min_count=2: is for none and given, not for subword=bpe; leave "
    "it out",
    "subword=none subword.byte_fallback=true": "subword.byte_fallback=True: is for bpe and "
    "unigram, not for subword=none; leave it out",
    "subword.character_coverage=2": "subword.character_coverage=2.0: must be 0.98 to 1",
    "subword.kind=bp": "subword.kind=bp: unknown; did you mean 'bpe'?",
    "model.tie=everything": "model.tie=everything: unknown; known: all, target",
    "trainer.precision=bf16": "trainer.precision=bf16: unknown; known: 32-true, bf16-mixed",
    "combiner.name=a/b": "combiner.name=a/b: a name has letters, digits, _ . and - only, and is "
    "not none",
    "combiner.widths=senrich": "combiner.widths=senrich: unknown; did you mean 'sennrich'?",
    "features.upos.dim=0": "features.upos.dim=0: must be at least 1",
    "features.upos.max_values=-1": "features.upos.max_values=-1: must be at least 1",
    "features.upos.column=upso": "features.upos.column=upso: unknown column; did you mean 'upos'?",
    "features.upos.policy=all": "features.upos.policy=all: unknown; known: copy, first, tag",
    "data.limit=0": "data.limit=0: must be at least 1",
    # contradictions
    "model.heads=3": "model.heads=3 does not divide model.dim=16 (16 = 3 * 5 + 1); change one of "
    "them",
    "decoding.nbest=3": "decoding.nbest=3 is above decoding.beam=1; set decoding.beam=3",
    "decoding.stop=soon": "decoding.stop=soon: unknown; known: likely, proven",
    "model.tie=all": "model.tie=all needs one table of width 16, but the combiner gives the word "
    "14 (16 = 14 word + 1 deprel + 1 upos); use model.tie=target or another combiner",
    "model.source_words=false model.tie=all": "model.source_words=false: model.tie=all is about "
    "the words' table, which is then absent; leave one of them out",
    "model.source_words=false model.source_vectors=x": "model.source_words=false: "
    "model.source_vectors=x is about the words' table, which is then absent; leave one of them "
    "out",
    "model.source_words=false combiner=none": "combiner=none model.source_words=false: neither "
    "words nor features remain; choose another combiner, such as concat",
    "model.tie=all subword.joint=false combiner=add": "model.tie=all needs one vocabulary for both "
    "sides; set subword.joint=true or model.tie=target",
    "features=[upos,deprel,upos]": "features=[upos,deprel,upos]: names a feature twice; leave one "
    "out",
    "--config-dir=my features=[word]": "features.word: the name of the words themselves; choose "
    "another",
    "--config-dir=my features=[upos,half]": "features.half: a name that PyTorch uses; choose "
    "another",
    "combiner.bias=1": "combiner=concat takes no bias; leave combiner.bias out",
    "combiner=gate +combiner.args.parts=1": "nmt_feat.combiners.Gate: the argument 'parts' is set "
    "already; leave it out of args",
    "combiner=gate combiner.bias=1 +combiner.args.bias=2": "nmt_feat.combiners.Gate: the argument "
    "'bias' is set already; leave it out of args",
    "+features.upos.args.dim=3": "nmt_feat.features.Categorical: the argument 'dim' is set "
    "already; leave it out of args",
    "+optimizer.args.lr=1": "torch.optim.AdamW: the argument 'lr' is set already; leave it out of "
    "args",
    "combiner=gate +combiner.args.bais=1": "combiner=gate takes no bais; leave combiner.args.bais "
    "out",
    "trainer.deterministic=true": "trainer.deterministic=true is for CUDA; on CPU leave it out",
    # widths
    "features.upos.dim=20": "concat leaves the word -5 of the model's width 16: deprel 1 + upos 20 "
    "= 21; make features.<name>.dim smaller or model.dim larger",
    # classes
    "combiner._target_=Gate": "_target_=Gate: not a dotted name; write module.Class",
    "combiner._target_=nmt_feat.combiners.Gat": "_target_=nmt_feat.combiners.Gat: no class 'Gat' "
    "in nmt_feat.combiners; did you mean 'Gate'?",
    "combiner._target_=mien.Wide": "_target_=mien.Wide: no module 'mien', neither in the current "
    "folder nor installed; did you mean 'mine'?",
    "combiner._target_=mine.Foward": "_target_=mine.Foward: no class 'Foward' in mine; did you "
    "mean 'Forward' or 'NoForward'?",
    "combiner._target_=mine.Other": "combiner._target_=mine.Other: must be derived from "
    "nmt_feat.combiners.Combiner",
    "combiner._target_=mine.Init": "mine.Init, line 8: KeyError: 'side'",
    "combiner._target_=mine.Forward": "mine.Forward, line 12: IndexError: list index out of range",
    "combiner=mixed +combiner.args.methods.upos=mine.Init": "mine.Init, line 8: KeyError: 'side'",
    "combiner=mixed +combiner.args.methods.upos=mine.Forward": "mine.Forward, line 12: IndexError: "
    "list index out of range",
    "combiner._target_=mine.NoForward": "mine.NoForward: NotImplementedError",
    "combiner._target_=mine.Needy": "mine.Needy needs the argument 'scale'",
    "combiner._target_=mine.Wide": "mine.Wide: forward returns (2, 3, 48) for batch 2 and time 3; "
    "return (2, 3, 16), the model's width",
    "combiner._target_=mine.Widths": "mine.Widths: gives widths to word; the parts are word, "
    "deprel, upos; give each part a width",
    "combiner._target_=mine.Fraction": "mine.Fraction: gives word the width 8.0; give a whole "
    "number, at least 1",
    "combiner._target_=mine.Nothing": "mine.Nothing: gives deprel the width 0; give a whole "
    "number, at least 1",
    "combiner._target_=needs_other.X": "_target_=needs_other.X: importing needs_other failed: No "
    "module named 'not_installed'",
    "combiner._target_=syntax.Mine": "_target_=syntax.Mine: importing syntax failed: SyntaxError: "
    "'(' was never closed (syntax.py, line 1)",
    "optimizer._target_=torch.optim.Adamm": "_target_=torch.optim.Adamm: no class 'Adamm' in "
    "torch.optim; did you mean 'Adam' or 'RAdam' or 'NAdam'?",
    "optimizer._target_=torch.optim.SGD optimizer.weight_decay=0.3": "optimizer.weight_decay=0.3: "
    "is for Adam and optimisers like it, torch.optim.SGD has no betas; leave it out, or give "
    "arguments of the class by +optimizer.args",
    "optimizer._target_=torch.optim.LBFGS": "optimizer._target_=torch.optim.LBFGS: computes the "
    "loss several times an update, which training does not; choose another",
    "features.upos._target_=torch.nn.ReLU": "torch.nn.ReLU takes no argument 'size'; known: "
    "inplace",
    # annotators
    "annotator=udpipe": "annotator=udpipe needs a model: set annotator.model=FILE.udpipe (models "
    "for many languages: https://ufal.mff.cuni.cz/udpipe/1/models)",
    "annotator=udpipe annotator.model=en.udpipe": "annotator.model=en.udpipe: no such file; set "
    "annotator.model to a model",
    "annotator=udpipe annotator.model=text": "annotator.model=text: not a UDPipe 1 model; get it "
    "again",
    "annotator=hanta data.source_lang=fr": "annotator=hanta: no language 'fr'; known: de, en",
    "annotator=hanto": "annotator=hanto: no such option; did you mean 'hanta'?",
    "annotator=hanta annotator.model=x": "nmt_feat.annotators.HanTa takes no argument "
    "'model'; known: language",
    "annotator=spacy": "annotator=spacy needs a model: set annotator.model to an installed "
    "pipeline (python -m spacy download en_core_web_sm) or to the folder of one",
    "annotator=spacy annotator.model=text": "annotator.model=text: no folder, and no pipeline of "
    "that name is installed; INSTALLED",
    "annotator=spacy annotator.model=my": "annotator.model=my: not a pipeline of spaCy, it has "
    "no meta.json and no config.cfg",
    "annotator._target_=tools.Fewer": "annotator=fewer makes 79 sentences of 80 lines; it must "
    "give one sentence for each line, its text the line",
    "annotator._target_=tools.Failing": "tools.Failing, line 15: ZeroDivisionError: division by "
    "zero",
    "annotator._target_=tools.Plain": "_target_=tools.Plain: must be derived from "
    "nmt_feat.annotators.Annotator",
    # data
    "data.folder=nowhere": "data.folder=nowhere: no such folder",
    "data.train.source=trian.conllu": "data.train.source=trian.conllu: no such file in CORPUS; "
    "correct the name or set data.folder",
    "data.min_words=100": "CORPUS/train.conllu: no training pair is left of 80 (80 words < 100); "
    "see data.min_words, data.max_pieces, data.max_ratio",
    "subword.vocab_size=9999": "subword.vocab_size=9999: too large for this text, bpe finds at "
    "most MOST pieces; set subword.vocab_size=MOST or less",
    "subword.vocab_size=10": "subword.vocab_size=10: too small for this text, its characters "
    "alone need LEAST; set subword.vocab_size=LEAST or more, or a lower subword.character_coverage",
    "features.upos.min_count=9999": "features.upos is constant: max_values=None and "
    "min_count=9999 keep 0 of its 13 values; relax them",
    "paths.runs=text": "text: File exists; set paths.runs and paths.cache to folders that can be "
    "written",
    "paths.runs=text/runs": "text: File exists; set paths.runs and paths.cache to folders that can "
    "be written",
}


@pytest.mark.parametrize("command", SETTINGS)
def test_settings(small: Small, here: Path, command: str) -> None:
    if "udpipe" in command:
        pytest.importorskip("ufal.udpipe")
    if "hanta" in command:
        pytest.importorskip("HanTa")
    if "spacy" in command:
        pytest.importorskip("spacy")
    arguments = command.split()
    if not any(argument.startswith("combiner") for argument in arguments):
        arguments.append("combiner=concat")
    # Options, and errors of the system, are the command line's matter.
    refusal = train if command.startswith(("-", "paths.runs")) else refuse
    actual = refusal(small, *arguments)
    expected = SETTINGS[command]
    if "INSTALLED" in expected:
        installed = [e.name for e in importlib.metadata.entry_points(group="spacy_models")]
        expected = expected.replace("INSTALLED", suggest("text", installed))
    for name in ("MOST", "LEAST"):  # depend on the corpus; the number itself is tested elsewhere
        expected = expected.replace(name, r"\d+") if name in expected else expected
    if r"\d" in expected:
        assert re.fullmatch(re.escape(expected).replace(r"\\d\+", r"(\d+)"), actual), actual
    else:
        assert actual == expected
    assert not list(here.glob("runs/concat*/config.yaml"))  # nothing was trained


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_device_that_is_not_there(small: Small, here: Path) -> None:
    result = train(small, "trainer.accelerator=cuda")
    assert result.startswith(
        "trainer.accelerator=cuda trainer.devices=1: is not available on this machine ("
    )


def test_options_stand_anywhere(small: Small, here: Path) -> None:
    """Hydra itself takes none between settings."""
    assert (
        train(small, "combiner=gate", "--config-dir", "my", "features=[gender]")
        == (SETTINGS["--config-dir=my features=[gender]"])
    )


PACKAGES = {
    "udpipe annotator.model=text": "ufal.udpipe",
    "hanta": "HanTa",
    "kiwi": "kiwipiepy",
    "spacy annotator.model=my": "spacy",
}


@pytest.mark.parametrize("annotator", PACKAGES)
def test_annotator_without_its_package(
    small: Small, here: Path, annotator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = PACKAGES[annotator]
    monkeypatch.setitem(sys.modules, package, None)
    extra = annotator.split()[0]
    assert train(small, *f"annotator={annotator}".split()) == (
        f"annotator={extra} needs the package {package}: pip install 'nmt_feat[{extra}]'"
    )


@pytest.mark.parametrize(
    ("code", "filename", "message"),
    [
        (errno.ENOSPC, None, "No space left on device"),
        (errno.EACCES, "runs", "runs: Permission denied"),
        (errno.EROFS, "runs", "runs: Read-only file system"),
    ],
)
def test_disk(
    small: Small,
    here: Path,
    code: int,
    filename: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(code, os.strerror(code), *([filename] if filename else []))

    monkeypatch.setattr(nmt_feat.runs.run, "save_for_translation", full)
    hint = "set paths.runs and paths.cache to folders that can be written"
    if code == errno.ENOSPC:
        hint = "make room, then the same command continues from what is finished"
    assert train(small, "combiner=none") == f"{message}; {hint}"
