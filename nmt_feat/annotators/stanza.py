"""Annotation by Stanza."""

import functools
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from nmt_feat.annotators.base import Annotator, hash_model, join_sentences, list_versions
from nmt_feat.errors import UserError
from nmt_feat.text.conllu import NONE, Sentence, align_words, parse_conllu

IOB = {"S": "B", "B": "B", "I": "I", "E": "I"}
"""From Stanza's tags of a name's only, first, inner and last word to IOB."""


class Stanza(Annotator):
    """Stanza (Qi et al. 2020): all that its models for a language give, with named entities.

    Names are in `misc`: `NER=B-PER` for the first word, `NER=I-PER` for the others. If it finds
    several sentences in a line, their words stay one sentence, with several roots. It runs on the
    CPU, a line at a time, so that the annotation of a line does not depend on other lines.

    Args:
        language: as Stanza names it, such as `de`.
        model: the folder of downloaded models; by default Stanza's.
        processors: the processors to run; by default all that have models for the language.
    """

    name = "stanza"

    def __init__(
        self, language: str, model: str | None = None, processors: Sequence[str] = ()
    ) -> None:
        self.package("stanza")
        resources = importlib.import_module("stanza.resources.common")
        self.language = language
        self.folder = Path(model or resources.DEFAULT_MODEL_DIR).expanduser()
        self.processors = [processors] if isinstance(processors, str) else list(processors)
        if not (self.folder / "resources.json").is_file() or not self._models():
            self._refuse("there are no models")

    def _refuse(self, reason: str) -> NoReturn:
        download = f"stanza.download('{self.language}', model_dir='{self.folder}')"
        raise UserError(
            f"annotator=stanza: {reason} of {self.language} in {self.folder}; download them: "
            f'python -c "import stanza; {download}"'
        )

    def _models(self) -> list[Path]:
        return sorted((self.folder / self.language).rglob("*.pt"))

    @functools.cached_property
    def _tagger(self) -> Any:
        stanza = self.package("stanza")
        chosen = {"processors": ",".join(self.processors)} if self.processors else {}
        try:
            return stanza.Pipeline(
                self.language,
                dir=str(self.folder),
                download_method=None,
                use_gpu=False,
                verbose=False,
                **chosen,
            )
        except Exception as error:  # of many types, by what is missing
            self._refuse(f"Stanza cannot load its models ({' '.join(str(error).split())})")

    def fingerprint(self) -> str:
        """Versions of Stanza and PyTorch, sum of the language's models, processors."""
        files = [self.folder / "resources.json", *self._models()]
        return (
            f"stanza {list_versions('stanza', 'torch')} language={self.language} "
            f"model={hash_model(self.folder, files)} processors={','.join(self.processors)}"
        )

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line."""
        out = []
        for text in texts:
            sentences: list[Sentence] = []
            for sentence in self._tagger(text).sentences:
                sentences += parse_conllu(_write_lines(sentence), "annotator=stanza")
            words = join_sentences(sentences)
            out.append(Sentence(text, align_words(text, words, "annotator=stanza")))
        return out


def _write_lines(sentence: Any) -> Iterator[str]:
    """Write a sentence of Stanza as CoNLL-U; a token of several words is a range."""
    for token in sentence.tokens:
        name = token.ner or "O"
        misc = f"NER={IOB[name[0]]}{name[1:]}" if name[0] in IOB else NONE
        words = token.words
        if len(words) > 1:
            yield "\t".join([f"{words[0].id}-{words[-1].id}", token.text, *[NONE] * 7, misc])
            misc = NONE
        for word in words:
            values = [word.lemma, word.upos, word.xpos, word.feats, word.head, word.deprel]
            columns = [NONE if value in (None, "") else str(value) for value in values]
            yield "\t".join([str(word.id), word.text, *columns, NONE, misc])
