"""Annotates texts: makes annotators from settings, and checks what they return."""

from collections.abc import Sequence
from unicodedata import is_normalized, normalize

from nmt_feat.annotators.base import Annotator
from nmt_feat.config.data_schema import AnnotatorConfig, AnnotatorPart
from nmt_feat.config.instantiate import build_object, locate_class, naming_failures
from nmt_feat.errors import UserError, short_repr
from nmt_feat.text.conllu import Sentence, Word
from nmt_feat.text.sentences import ANNOTATION


def make_annotators(config: AnnotatorConfig) -> dict[str, Annotator]:
    """Make the annotators that a config describes, by name, in order."""
    parts = {name: make_annotator(part) for name, part in config.parts.items()}
    if not parts and (annotator := make_annotator(config)):
        return {annotator.name: annotator}
    return {name: annotator for name, annotator in parts.items() if annotator}


def make_annotator(config: AnnotatorConfig | AnnotatorPart) -> Annotator | None:
    """Make the annotator that settings describe; None if they describe none."""
    if config._target_ is None:
        return None
    model = {} if config.model is None else {"model": config.model}
    annotator: Annotator = build_object(config._target_, Annotator, config.args, **model)
    if not isinstance(getattr(annotator, "name", None), str):
        raise UserError(f'{config._target_}: has no name; give the class one: name = "mine"')
    return annotator


def fingerprint_of(annotator: Annotator) -> str:
    """The annotator's fingerprint; a failure, or anything but text, is a `UserError`."""
    with naming_failures(type(annotator), Annotator):
        fingerprint = annotator.fingerprint()
    if not isinstance(fingerprint, str):
        raise UserError(
            f"annotator={annotator.name}: its fingerprint is {short_repr(fingerprint)}; return "
            "text with package, version and model"
        )
    return fingerprint


def annotates_morphemes(config: AnnotatorConfig) -> bool:
    """Whether an annotator's words are morphemes. Only its class is looked at."""
    return any(getattr(locate_class(target), "morphemes", False) for target in config.targets)


def annotate_texts(annotator: Annotator, texts: Sequence[str]) -> list[Sentence]:
    """Annotate lines of text; whatever the annotator raises is a `UserError`.

    Blank lines get no words, and the annotator does not see them.
    """
    visible_texts = [text for text in texts if text.strip()]
    annotated = iter(_annotate_visible(annotator, visible_texts) if visible_texts else ())
    return [next(annotated) if text.strip() else Sentence(text) for text in texts]


def _annotate_visible(annotator: Annotator, texts: Sequence[str]) -> list[Sentence]:
    """Annotate lines that are not blank.

    The annotator reads composed characters (NFC), as its model did in training: in a decomposed
    text (NFD) it would know few words. The words' spans are those in the original text.
    """
    origins = [[] if is_normalized("NFC", text) else _map_composed(text) for text in texts]
    composed = [
        normalize("NFC", text) if origin else text
        for text, origin in zip(texts, origins, strict=True)
    ]
    with naming_failures(type(annotator), Annotator):
        sentences = annotator.annotate(composed)
        if not isinstance(sentences, list):
            raise TypeError(f"annotate returns {short_repr(sentences)}, not a list of sentences")
        annotated_texts = [sentence.text for sentence in sentences]
    if not type(annotator).__module__.startswith("nmt_feat."):
        _check_words(annotator, sentences)
    _check_texts(annotator, annotated_texts, composed)
    return [
        _move_to_text(sentence, text, origin) if origin else sentence
        for sentence, text, origin in zip(sentences, texts, origins, strict=True)
    ]


def _check_texts(annotator: Annotator, annotated: Sequence[str], texts: Sequence[str]) -> None:
    """Refuse sentences whose texts are not the lines that the annotator was to annotate."""
    if annotated == texts:
        return
    if len(annotated) != len(texts):
        problem = f"{len(annotated)} sentences of {len(texts)} lines"
    else:
        pairs = zip(annotated, texts, strict=True)
        actual, expected = next(pair for pair in pairs if pair[0] != pair[1])
        problem = f"{actual!r} of the line {expected!r}"
    raise UserError(
        f"annotator={annotator.name} makes {problem}; it must give one sentence for each line, its "
        "text the line"
    )


def lemmatize_texts(annotator: Annotator, texts: Sequence[str]) -> list[tuple[str, ...]]:
    """The lemmas of each text, in lower case."""
    sentences = annotate_texts(annotator, texts)
    return [tuple(word.lemma.lower() for word in sentence.words) for sentence in sentences]


def _check_words(annotator: Annotator, sentences: Sequence[Sentence]) -> None:
    """Refuse words of a user's annotator that are not words, or do not stand in their text."""
    for sentence in sentences:
        end = 0
        for word in sentence.words:
            if not isinstance(word, Word):
                raise UserError(
                    f"annotator={annotator.name}: {short_repr(word)} of "
                    f"{short_repr(sentence.text)} is not a nmt_feat.text.conllu.Word; make it one"
                )
            values = [getattr(word, column) for column in ("form", *ANNOTATION)]
            if not all(isinstance(value, str) and value for value in values):
                raise UserError(
                    f"annotator={annotator.name}: the word {short_repr(word.form)} of "
                    f"{short_repr(sentence.text)} has a value that is not text, or is empty; give "
                    "text, and _ for no value"
                )
            if not end <= word.start <= word.end <= len(sentence.text):
                raise UserError(
                    f"annotator={annotator.name}: the word {short_repr(word.form)} stands at "
                    f"{word.start} to {word.end} of {short_repr(sentence.text)}; give words in the "
                    "order of the text, with spans inside of it"
                )
            if not (hasattr(word.head, "__index__") and -1 <= word.head <= len(sentence.words)):
                raise UserError(
                    f"annotator={annotator.name}: the head of {short_repr(word.form)} of "
                    f"{short_repr(sentence.text)} is {short_repr(word.head)}; give the number of "
                    f"one of its {len(sentence.words)} words, 0 for the root, -1 for none"
                )
            end = word.start


def _map_composed(text: str) -> list[int]:
    """For each position in the composed text, that in the text; empty if a position has none."""
    composed, origins = normalize("NFC", text), {}
    for position in range(len(text) + 1):
        before = normalize("NFC", text[:position])
        if composed.startswith(before):  # if not, the next character is composed with the last
            origins[len(before)] = position
    is_complete = list(origins) == list(range(len(composed) + 1))
    return list(origins.values()) if is_complete else []


def _move_to_text(sentence: Sentence, text: str, origins: Sequence[int]) -> Sentence:
    """From a sentence of a composed text to one of the text itself; see `_map_composed`."""
    words = []
    for word in sentence.words:
        start, end = origins[word.start], origins[word.end]
        words.append(word._replace(form=text[start:end], start=start, end=end))
    return Sentence(text, tuple(words))
