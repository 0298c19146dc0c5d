"""Any pipeline of spaCy."""

import functools
import importlib.metadata
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmt_feat.annotators.base import Annotator, hash_model, list_versions
from nmt_feat.errors import UserError, suggest
from nmt_feat.text.conllu import NONE, ROOT, Sentence, Word, align_words


class SpaCy(Annotator):
    """A pipeline of spaCy (Honnibal et al. 2020): tags, lemmas, morphology, dependencies.

    It gives the columns that the pipeline gives, in the pipeline's labels (`dobj` and `ROOT` if it
    was trained on ClearNLP's); the other columns are `_`. If it finds several sentences in a line,
    their words stay one sentence, with several roots. Tokens of white space are left out.

    Args:
        model: the folder of a pipeline, or the name of an installed one. A folder's files are data
            (JSON, msgpack, arrays; none is unpickled, and PyTorch's are loaded as weights only). An
            installed pipeline is a Python package, whose code is run like that of any package.
        exclude: components that are not loaded, such as `ner`, to save time.
        entities: whether `misc` has the named entities that the pipeline finds: `NER=B-ORG` for the
            first word of a name, `NER=I-ORG` for the others.
    """

    name = "spacy"

    def __init__(
        self, model: str | None = None, exclude: Sequence[str] = (), entities: bool = False
    ) -> None:
        self.package("spacy")
        if model is None:
            raise UserError(
                "annotator=spacy needs a model: set annotator.model to an installed pipeline "
                "(python -m spacy download en_core_web_sm) or to the folder of one"
            )
        self.model = model
        self.entities = entities
        self.exclude = [exclude] if isinstance(exclude, str) else sorted(exclude)
        path = Path(model).expanduser()
        self.installed = not path.is_dir()
        self.folder = _find_installed(model) if self.installed else path
        missing = [n for n in ("meta.json", "config.cfg") if not (self.folder / n).is_file()]
        if missing:
            lacks = " and no ".join(missing)
            raise UserError(f"annotator.model={model}: not a pipeline of spaCy, it has no {lacks}")
        try:
            self.meta = json.loads((self.folder / "meta.json").read_bytes())
            components = self.meta["pipeline"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"annotator.model={model}: broken meta.json ({error}); get the pipeline again"
            ) from None
        for name in self.exclude:
            if name not in components:
                raise UserError(
                    f"annotator.args.exclude: {model} has no component {name!r}; "
                    f"{suggest(name, components)}"
                )

    @functools.cached_property
    def _tagger(self) -> Any:
        spacy = self.package("spacy")
        source = self.model if self.installed else self.folder
        try:
            return spacy.load(source, exclude=self.exclude)
        except Exception as error:  # of many types, by what the pipeline lacks
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"annotator.model={self.model}: spaCy cannot load it: {reason}"
            ) from None

    def fingerprint(self) -> str:
        """Versions of spaCy and Thinc, sum of the pipeline's files, excluded components.

        The pipeline's path is not in it.
        """
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        entities = " entities" if self.entities else ""
        return (
            f"spacy {list_versions('spacy', 'thinc')} model={hash_model(self.folder, files)} "
            f"exclude={','.join(self.exclude)}{entities}"
        )

    def annotate(self, texts: Sequence[str]) -> list[Sentence]:
        """A sentence for each line."""
        docs = zip(texts, self._tagger.pipe(texts), strict=True)
        return [Sentence(text, _convert_words(text, doc, self.entities)) for text, doc in docs]


def _find_installed(name: str) -> Path:
    """The folder with the data of an installed pipeline; its package is not imported."""
    packages = {e.name: e.value for e in importlib.metadata.entry_points(group="spacy_models")}
    spec = importlib.util.find_spec(packages[name]) if name in packages else None
    if spec is None or spec.origin is None:
        raise UserError(
            f"annotator.model={name}: no folder, and no pipeline of that name is installed; "
            f"{suggest(name, packages)}"
        )
    home = Path(spec.origin).parent
    return next((path.parent for path in home.glob("*/config.cfg")), home)


def _convert_words(text: str, doc: Any, entities: bool) -> tuple[Word, ...]:
    """The words of a document of spaCy, without white space."""
    has_heads = doc.has_annotation("DEP")
    tokens = [token for token in doc if not token.is_space]
    numbers = {token.i: number for number, token in enumerate(tokens, 1)}
    words = []
    for token in tokens:
        head, head_upos = -1, NONE
        if has_heads:
            head_token = _find_head(token)
            head, head_upos = 0, ROOT
            if head_token is not None:
                head, head_upos = numbers[head_token.i], head_token.pos_ or NONE
        values = token.lemma_, token.pos_, token.tag_, str(token.morph), token.dep_
        lemma, upos, xpos, feats, deprel = (value or NONE for value in values)
        is_named = entities and token.ent_iob_ in ("B", "I")
        misc = f"NER={token.ent_iob_}-{token.ent_type_}" if is_named else NONE
        syntax = feats, deprel, head_upos, head
        words.append(Word(token.text, 0, 0, lemma, upos, xpos, *syntax, misc))
    return align_words(text, words, "annotator=spacy")


def _find_head(token: Any) -> Any | None:
    """The nearest token above that is a word, past white space; None for a root."""
    head = token.head
    while head.is_space and head.head.i != head.i:
        head = head.head
    return None if head.i == token.i or head.is_space else head
