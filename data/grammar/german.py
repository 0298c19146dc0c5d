"""German morphology and word order."""

from __future__ import annotations

from dataclasses import dataclass

from .lexicon import Verb

# Endings of der-words (dies-er, jen-er), by case, then m, f, n, plural.
STRONG = {
    "nom": {"m": "er", "f": "e", "n": "es", "p": "e"},
    "acc": {"m": "en", "f": "e", "n": "es", "p": "e"},
    "dat": {"m": "em", "f": "er", "n": "em", "p": "en"},
}
DER = {
    "nom": {"m": "der", "f": "die", "n": "das", "p": "die"},
    "acc": {"m": "den", "f": "die", "n": "das", "p": "die"},
    "dat": {"m": "dem", "f": "der", "n": "dem", "p": "den"},
}
RELATIVE = {**DER, "dat": {"m": "dem", "f": "der", "n": "dem", "p": "denen"}}
PERSONS = {
    ("1", "Sing"): 0,
    ("2", "Sing"): 1,
    ("3", "Sing"): 2,
    ("1", "Plur"): 3,
    ("2", "Plur"): 4,
    ("3", "Plur"): 5,
}
SHORT = ("ich", "du", "er", "sie", "es", "wir", "ihr")
REFLEXIVE = ["mich", "dich", "sich", "uns", "euch", "sich"]
# Present forms that follow no rule, for ich, du, er, wir, ihr, sie.
IRREGULAR = {
    "sein": ["bin", "bist", "ist", "sind", "seid", "sind"],
    "haben": ["habe", "hast", "hat", "haben", "habt", "haben"],
    "werden": ["werde", "wirst", "wird", "werden", "werdet", "werden"],
    "können": ["kann", "kannst", "kann", "können", "könnt", "können"],
    "müssen": ["muss", "musst", "muss", "müssen", "müsst", "müssen"],
    # English should is the subjunctive.
    "sollen": ["sollte", "solltest", "sollte", "sollten", "solltet", "sollten"],
    "wollen": ["will", "willst", "will", "wollen", "wollt", "wollen"],
}
PAST = {"sein": "war", "haben": "hatte", "werden": "wurde", "wollen": "wollte"}
CONTRACTED = {"in das": "ins", "in dem": "im", "bei dem": "beim"}


def agreement_class(gender: str, number: str) -> str:
    """The column of an ending table: the plural knows no gender."""
    return "p" if number == "Plur" else gender


def determiner(word: str, case: str, column: str) -> str:
    """A German determiner: der, dies-, jen-, ein, possessives; "zwei" and "" stand as they are."""
    if word == "der":
        return DER[case][column]
    if word in ("dies", "jen"):
        return word + STRONG[case][column]
    if word in ("", "zwei", "drei"):
        return word
    bare = (case == "nom" and column in "mn") or (case == "acc" and column == "n")
    if bare:
        return word
    # unser keeps its e: unsere, unseren.
    return word + STRONG[case][column]


def adjective(stem: str, det: str, case: str, column: str) -> str:
    """An attributive adjective: weak after der-words, mixed after ein-words, else strong."""
    if det in ("", "zwei", "drei"):
        ending = STRONG[case][column]
    elif case == "dat" or column == "p" or (case == "acc" and column == "m"):
        ending = "en"
    elif det in ("der", "dies", "jen") or column == "f":
        ending = "e"
    else:
        ending = STRONG[case][column]
    if stem == "teuer":
        stem = "teur"
    return stem + (ending[1:] if stem.endswith("e") else ending)


def preposition(prep: str, phrase: str) -> str:
    """Preposition and noun phrase, contracted where German does (im Garten)."""
    joined = f"{prep} {phrase}"
    for plain, short in CONTRACTED.items():
        if joined.startswith(plain + " "):
            return short + joined[len(plain) :]
    return joined


def _simple(verb: Verb) -> str:
    """The infinitive without its prefix."""
    return verb.german.removeprefix(verb.prefix)


def present(verb: Verb, person: int) -> str:
    """The present form without prefix; `person` counts ich, du, er, wir, ihr, sie from 0."""
    base, third = _simple(verb), verb.german_third
    stem = base[:-2] if base.endswith("en") else base[:-1]
    if person == 0:
        return stem[:-2] + "le" if base.endswith("eln") else stem + "e"
    if person == 1:
        return third if third[-2] in "sßz" else third[:-1] + "st"
    if person == 2:
        return third
    if person == 4:
        return (
            third
            if third == stem + "et" or stem.endswith("er") or stem.endswith("el")
            else (stem + ("et" if stem[-1] in "td" else "t"))
        )
    return base


def past(form: str, person: int) -> str:
    """A past form from that of the first person singular."""
    if person in (0, 2):
        return form
    if form.endswith("e"):
        return form + {1: "st", 3: "n", 4: "t", 5: "n"}[person]
    second = "est" if form[-1] in "tdsßz" else "st"
    return form + {1: second, 3: "en", 4: "et" if form[-1] in "td" else "t", 5: "en"}[person]


def to_infinitive(verb: Verb) -> str:
    """The infinitive with zu, which goes between prefix and stem."""
    return f"{verb.prefix}zu{_simple(verb)}" if verb.prefix else f"zu {verb.german}"


@dataclass(frozen=True)
class Verbal:
    """A German verb group: a tense (present, past, perfect, passive) or a modal with infinitive."""

    verb: Verb
    tense: str
    person: int
    modal: str = ""

    def parts(self) -> tuple[str, str, str]:
        """(finite verb, separable prefix, what closes the clause)."""
        if self.modal:
            return IRREGULAR[self.modal][self.person], "", self.verb.german
        if self.tense == "perfect":
            return IRREGULAR[self.verb.auxiliary][self.person], "", self.verb.german_participle
        if self.tense == "passive":
            return past(PAST["werden"], self.person), "", self.verb.german_participle
        if self.tense == "past":
            return past(self.verb.german_past, self.person), self.verb.prefix, ""
        return present(self.verb, self.person), self.verb.prefix, ""

    def reflexive(self) -> list[str]:
        """The reflexive pronoun, if the verb needs one."""
        return [REFLEXIVE[self.person]] if self.verb.reflexive else []

    def main(self, subject: str, middle: list[str], front: str = "") -> str:
        """Verb second: the subject or another phrase in front."""
        finite, prefix, close = self.parts()
        if front:
            return self.question(subject, middle, front)
        return join([subject, finite, *self.reflexive(), *middle, close, prefix])

    def question(self, subject: str, middle: list[str], front: str = "") -> str:
        """Verb first, or second after a question word."""
        finite, prefix, close = self.parts()
        # Heute verbeugt er sich; but heute verbeugt sich der Mann.
        own = [subject, *self.reflexive()] if subject in SHORT else [*self.reflexive(), subject]
        return join([front, finite, *own, *middle, close, prefix])

    def dependent(self, subject: str, middle: list[str]) -> str:
        """Verb last; the prefix joins its verb again."""
        finite, prefix, close = self.parts()
        return join([subject, *self.reflexive(), *middle, close, prefix + finite])


def join(parts: list[str]) -> str:
    """The parts that are there, with single spaces."""
    return " ".join(p for p in parts if p)


def sentence(text: str, mark: str = ".") -> str:
    """A clause as a written sentence."""
    return text[0].upper() + text[1:] + mark
