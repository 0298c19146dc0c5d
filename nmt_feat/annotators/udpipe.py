"""Annotation by UDPipe 1."""

import functools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmt_feat.annotators.base import Annotator, join_sentences, list_versions
from nmt_feat.errors import UserError
from nmt_feat.text.conllu import Sentence, align_words, parse_conllu
from nmt_feat.text.files import hash_content

_OTHER_SPACE = re.compile(r"[^\S \t\u00a0]")  # white space that UDPipe reads as letters


class UDPipe(Annotator):
    """UDPipe 1 (Straka & Straková 2017): tokenises, tags, lemmatises and parses.

    If its tokeniser finds several sentences in a line, their words stay one sentence, with several
    roots. `model` is a model file; it determines which columns there are.
    """

    name = "udpipe"

    def __init__(self, model: str | None = None) -> None:
        self.package("ufal.udpipe")
        if model is None:
            raise UserError(
                "annotator=udpipe needs a model: set annotator.model=FILE.udpipe "
                "(models for many languages: https://ufal.mff.cuni.cz/udpipe/1/models)"
            )
        self.model = Path(model).expanduser()
        if not self.model.is_file():
            raise UserError(
                f"annotator.model={model}: no such file; set annotator.model to a model"
            )

    @functools.cached_property
    def _tagger(self) -> Any:
        udpipe = self.package("ufal.udpipe")
        model = udpipe.Model.load(str(self.model))
        if model is None:
            raise UserError(f"annotator.model={self.model}: not a UDPipe 1 model; get it again")
        default = udpipe.Pipeline.DEFAULT
        # The pipeline does not keep the model alive.
        return model, udpipe.Pipeline(model, "tokenize", default, default, "conllu")

    def fingerprint(self) -> str:
        """Package, version and sum of the model."""
        return f"udpipe {list_versions('ufal.udpipe')} model={hash_content(self.model)}"

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line."""
        error = self.package("ufal.udpipe").ProcessingError()
        _, pipeline = self._tagger
        out = []
        for text in texts:
            conllu = pipeline.process(_OTHER_SPACE.sub(" ", text), error)
            if error.occurred():
                raise UserError(f"annotator=udpipe: {error.message.strip()} in {text!r}")
            # Without `# text`, whose white space may be other than the line's: `align_words` reads
            # the line itself.
            lines = re.sub(r"(?m)^# .*\n", "", conllu).split("\n")
            words = join_sentences(parse_conllu(lines, "udpipe"))
            out.append(Sentence(text, align_words(text, words, "annotator=udpipe")))
        return out
