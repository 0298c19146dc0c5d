"""Noun phrases, verb groups and adjuncts: each says its English and returns what German needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from . import german
from .derivation import Choice, DeadEnd, Derivation, Token, weighted
from .lexicon import Adjective, Noun, Verb, adjective_choice, nouns, verbs


@dataclass
class Nominal:
    """A noun phrase or pronoun: the English head word and the German forms by case."""

    head: Token
    person: str
    number: str
    gender: str
    forms: dict[str, str]
    pronoun: bool = False
    noun: Noun | None = None

    @property
    def german_person(self) -> int:
        """The person and number that the German verb agrees with, 0 to 5."""
        return german.PERSONS[self.person, self.number]

    @property
    def third_singular(self) -> bool:
        """Does an English present verb take -s?"""
        return (self.person, self.number) == ("3", "Sing")


# nominative, accusative, person, number, gender feature, German nom, acc, dat
PRONOUNS = [
    ("I", "me", "1", "Sing", "", "ich", "mich", "mir"),
    ("you", "you", "2", "Sing", "", "du", "dich", "dir"),
    ("you", "you", "2", "Plur", "", "ihr", "euch", "euch"),
    ("he", "him", "3", "Sing", "Masc", "er", "ihn", "ihm"),
    ("she", "her", "3", "Sing", "Fem", "sie", "sie", "ihr"),
    ("we", "us", "1", "Plur", "", "wir", "uns", "uns"),
    ("they", "them", "3", "Plur", "", "sie", "sie", "ihnen"),
]
NAMES = [("Anna", "f"), ("Peter", "m"), ("Maria", "f"), ("Paul", "m"), ("Laura", "f"),
         ("Thomas", "m"), ("Eva", "f"), ("Martin", "m")]
POSSESSIVES = {
    "my": ("mein", "Number=Sing|Person=1"),
    "his": ("sein", "Gender=Masc|Number=Sing|Person=3"),
    "her": ("ihr", "Gender=Fem|Number=Sing|Person=3"),
    "our": ("unser", "Number=Plur|Person=1"),
    "their": ("ihr", "Number=Plur|Person=3"),
}
# English form -> (lemma, German, upos, xpos, feats, deprel, number that it fixes, weight)
DETERMINERS = {
    "the": ("the", "der", "DET", "DT", "Definite=Def|PronType=Art", "det", "", 8.0),
    "a": ("a", "ein", "DET", "DT", "Definite=Ind|PronType=Art", "det", "Sing", 2.5),
    "an": ("a", "ein", "DET", "DT", "Definite=Ind|PronType=Art", "det", "Sing", 0.8),
    "this": ("this", "dies", "DET", "DT", "Number=Sing|PronType=Dem", "det", "Sing", 1.0),
    "these": ("this", "dies", "DET", "DT", "Number=Plur|PronType=Dem", "det", "Plur", 1.0),
    "that": ("that", "jen", "DET", "DT", "Number=Sing|PronType=Dem", "det", "Sing", 0.5),
    "two": ("two", "zwei", "NUM", "CD", "NumForm=Word|NumType=Card", "nummod", "Plur", 0.6),
    "three": ("three", "drei", "NUM", "CD", "NumForm=Word|NumType=Card", "nummod", "Plur", 0.4),
    **{
        form: (form, de, "PRON", "PRP$", _feats, "nmod:poss", "", 0.7)
        for form, (de, _person) in POSSESSIVES.items()
        for _feats in [f"Case=Gen|{_person}|Poss=Yes|PronType=Prs"]
    },
}
MASS = ("the", "my", "his", "her", "our", "their")
NUMBER = weighted(Sing=1.2, Plur=1)
MODIFIED = weighted(no=3, yes=1)
ALL_DETERMINERS = tuple(DETERMINERS)
SUBJECT_DETERMINERS = tuple(d for d in DETERMINERS if d != "that")


@cache
def determiner_choice(allowed: tuple[str, ...], bare: bool) -> Choice[str]:
    """Determiners by weight; with `bare`, a plural may stand without."""
    return Choice(
        allowed + (("",) if bare else ()),
        weight=lambda d: DETERMINERS[d][7] if d else 0.8,
        form=lambda d: d or None,
    )


@cache
def noun_choice(classes: tuple[str, ...], number: str, count: bool) -> Choice[Noun]:
    """Nouns of some classes in a number; `count`: mass nouns do not fit the determiner."""
    fits = [n for n in nouns(*classes) if n.plural or (number == "Sing" and not count)]
    # sheep and fish are few, but their number is one of the things to learn.
    return Choice(
        fits,
        weight=lambda n: 2.0 if n.plural == n.english else 1.0,
        form=lambda n: n.english if number == "Sing" else n.plural,
    )


@cache
def modifier_choice(living: bool, ing: bool) -> Choice[Adjective]:
    """Attributive adjectives for living beings or things."""
    return adjective_choice(*(("living", "ing") if ing else ("living",)) if living else ("thing",))


def say_determiner(d: Derivation, form: str) -> Token | None:
    """A determiner, or nothing for the empty form."""
    if not form:
        return None
    lemma, _, upos, xpos, feats, deprel, _, _ = DETERMINERS[form]
    token = d.emit(form, lemma, upos, xpos, feats)
    token.deprel = deprel
    return token


def say_adjective(d: Derivation, adjective: Adjective) -> Token:
    """An adjective, not attached yet."""
    token = d.emit(adjective.lemma, adjective.lemma, "ADJ", "JJ", "Degree=Pos")
    token.deprel = "amod"
    return token


def say_noun(d: Derivation, entry: Noun, number: str) -> Token:
    """A noun in a number."""
    form, xpos = (entry.english, "NN") if number == "Sing" else (entry.plural, "NNS")
    return d.emit(form, entry.english, "NOUN", xpos, f"Number={number}")


def nominal(
    head: Token, det: str, number: str, entry: Noun, stem: str = "", compound: str = ""
) -> Nominal:
    """The German side of determiner, adjective stem and noun; `compound` is a first part of it."""
    column = german.agreement_class(entry.gender, number)
    word = DETERMINERS[det][1] if det else ""
    forms = {}
    for case in ("nom", "acc", "dat"):
        name = entry.german_form(case, number)
        forms[case] = german.join([
            german.determiner(word, case, column),
            german.adjective(stem, word, case, column) if stem else "",
            compound + (name[0].lower() + name[1:] if compound else name),
        ])
    return Nominal(head, "3", number, entry.gender, forms, noun=entry)


def noun_phrase(
    d: Derivation,
    classes: tuple[str, ...],
    allowed: tuple[str, ...] = SUBJECT_DETERMINERS,
    bare: bool = True,
    adjective: str = "any",
    number: str = "",
) -> Nominal:
    """Determiner, perhaps an adjective, noun. `adjective`: "any", "no", "yes"."""
    det = d.pick(determiner_choice(allowed, bare and number != "Sing"))
    fixed = DETERMINERS[det][6] if det else "Plur"
    if number and fixed and number != fixed:
        raise DeadEnd
    number = number or fixed or d.pick(NUMBER)
    tokens = [say_determiner(d, det)]
    living = not {"thing", "tool", "put", "text", "closable", "food", "seen"} & set(classes)
    stem = ""
    if adjective == "yes" or (adjective == "any" and d.pick(MODIFIED) == "yes"):
        modifier = d.pick(modifier_choice(living, classes == ("person",)))
        tokens.append(say_adjective(d, modifier))
        stem = modifier.german
    entry = d.pick(noun_choice(classes, number, det not in MASS))
    head = say_noun(d, entry, number)
    for token in tokens:
        if token:
            token.attach(head, token.deprel)
    return nominal(head, det, number, entry, stem)


TONGUE = weighted(adjective=1, noun=1)
TONGUE_ADJECTIVES = adjective_choice("tongue")
TONGUE_DETERMINERS = ("the", "a", "an", "this", "my", "his", "our", "their")


def tongue_phrase(d: Derivation) -> Nominal:
    """The French teacher: a teacher from France (ADJ), or one of French (PROPN, a compound)."""
    det = d.pick(determiner_choice(TONGUE_DETERMINERS, False))
    number = DETERMINERS[det][6] or d.pick(NUMBER)
    article = say_determiner(d, det)
    kind = d.pick(TONGUE)
    tongue = d.pick(TONGUE_ADJECTIVES)
    if kind == "adjective":
        first = say_adjective(d, tongue)
    else:
        first = d.emit(tongue.lemma, tongue.lemma, "PROPN", "NNP", "Number=Sing")
        first.deprel = "compound"
    entry = d.pick(noun_choice(("tongue",), number, True))
    head = say_noun(d, entry, number)
    for token in (article, first):
        if token:
            token.attach(head, token.deprel)
    name = tongue.german[0].upper() + tongue.german[1:]
    if kind == "adjective":
        return nominal(head, det, number, entry, tongue.german)
    return nominal(head, det, number, entry, compound=name)


@cache
def pronoun_choice(column: int, which: str) -> Choice[tuple[str, ...]]:
    """Pronouns, column 0 nominative, 1 accusative; `which` lists the English nominatives."""
    return Choice([p for p in PRONOUNS if p[0] in which.split()], form=lambda p: p[column])


def pronoun(d: Derivation, case: str, which: str = "I you he she we they") -> Nominal:
    """A personal pronoun in the case Nom or Acc."""
    column = 0 if case == "Nom" else 1
    row = d.pick(pronoun_choice(column, which))
    parts = [f"Case={case}" if row[0] != "you" else "Case=" + case, f"Number={row[3]}"]
    parts += [f"Person={row[2]}", "PronType=Prs"] + ([f"Gender={row[4]}"] if row[4] else [])
    head = d.emit(row[column], row[0], "PRON", "PRP", "|".join(sorted(parts)))
    forms = {"nom": row[5], "acc": row[6], "dat": row[7]}
    return Nominal(head, row[2], row[3], row[4], forms, pronoun=True)


NAME_CHOICE = Choice(NAMES, form=lambda n: n[0])


def name(d: Derivation) -> Nominal:
    """A first name, the same in both languages."""
    written, gender = d.pick(NAME_CHOICE)
    head = d.emit(written, written, "PROPN", "NNP", "Number=Sing")
    return Nominal(head, "3", "Sing", gender, dict.fromkeys(("nom", "acc", "dat"), written))


SUBJECT = weighted(pronoun=3, name=2, noun=5)
NO_YOU = "I he she we they"


def subject(d: Derivation, classes: tuple[str, ...] = ("person",), you: bool = False) -> Nominal:
    """A subject; `you`, which hides its number, only where asked for."""
    kind = d.pick(SUBJECT)
    if kind == "pronoun":
        return pronoun(d, "Nom", NO_YOU + " you" if you else NO_YOU)
    if kind == "name":
        return name(d)
    return noun_phrase(d, classes)


@cache
def verb_choice(classes: tuple[str, ...], form: str) -> Choice[Verb]:
    """Verbs of some classes by the English form (lemma, third, past, participle, ing)."""
    return Choice(verbs(*classes), form=lambda v: getattr(v, form))


TENSES = {
    "all": weighted(past=5, present=4, perfect=1.2, modal=2.2, progressive=0.8),
    "simple": weighted(past=1, present=1),
    "past": weighted(past=1),
    "present": weighted(present=1),
    "told": weighted(past=3, present=3, modal=1),
}
MODALS = {"can": "können", "must": "müssen", "should": "sollen", "will": "werden"}
MODAL_CHOICE = Choice(MODALS, form=lambda m: m)
THIRD = "Mood=Ind|Number=Sing|Person=3|Tense=Pres|VerbForm=Fin"
PRESENT = "Mood=Ind|Tense=Pres|VerbForm=Fin"
PAST = "Mood=Ind|Tense=Past|VerbForm=Fin"
BE_FORMS = {
    ("present", 0): ("am", "VBP", "Mood=Ind|Number=Sing|Person=1|Tense=Pres|VerbForm=Fin"),
    ("present", 2): ("is", "VBZ", THIRD),
    ("past", 0): ("was", "VBD", "Mood=Ind|Number=Sing|Person=1|Tense=Past|VerbForm=Fin"),
    ("past", 2): ("was", "VBD", "Mood=Ind|Number=Sing|Person=3|Tense=Past|VerbForm=Fin"),
}


def say_be(d: Derivation, tense: str, person: int) -> Token:
    """A form of be for a subject; you are and we are look the same."""
    other = ("are", "VBP", PRESENT) if tense == "present" else ("were", "VBD", PAST)
    form, xpos, feats = BE_FORMS.get((tense, person), other)
    return d.emit(form, "be", "AUX", xpos, feats)


def say_modal(d: Derivation) -> tuple[Token, str]:
    """A modal verb and its German infinitive."""
    modal = d.pick(MODAL_CHOICE)
    return d.emit(modal, modal, "AUX", "MD", "VerbForm=Fin"), MODALS[modal]


def say_infinitive(d: Derivation, classes: tuple[str, ...]) -> tuple[Token, Verb]:
    """A bare infinitive with its particle, if it has one."""
    entry = d.pick(verb_choice(classes, "lemma"))
    head = d.emit(entry.lemma, entry.lemma, "VERB", "VB", "VerbForm=Inf")
    say_particle(d, entry, head)
    return head, entry


def say_particle(d: Derivation, entry: Verb, head: Token) -> None:
    """The particle of a phrasal verb."""
    if entry.particle:
        d.emit(entry.particle, entry.particle, "ADP", "RP").attach(head, "compound:prt")


def verb_group(
    d: Derivation, subject: Nominal, classes: tuple[str, ...], tenses: str = "all"
) -> tuple[Token, german.Verbal]:
    """The English verb group after its subject, and the German one."""
    tense = d.pick(TENSES[tenses])
    third, person = subject.third_singular, subject.german_person
    auxiliary, modal = None, ""
    if tense == "modal":
        auxiliary, modal = say_modal(d)
        form, xpos, feats = "lemma", "VB", "VerbForm=Inf"
    elif tense == "perfect":
        auxiliary = d.emit("has" if third else "have", "have", "AUX", "VBZ" if third else "VBP",
                           THIRD if third else PRESENT)
        form, xpos, feats = "participle", "VBN", "Tense=Past|VerbForm=Part"
    elif tense == "progressive":
        auxiliary = say_be(d, "present", person)
        form, xpos, feats = "ing", "VBG", "Tense=Pres|VerbForm=Part"
    elif tense == "past":
        form, xpos, feats = "past", "VBD", PAST
    elif third:
        form, xpos, feats = "third", "VBZ", THIRD
    else:
        form, xpos, feats = "lemma", "VBP", PRESENT
    entry = d.pick(verb_choice(classes, form))
    if tense == "progressive" and "stative" in entry.classes:
        raise DeadEnd
    head = d.emit(getattr(entry, form), entry.lemma, "VERB", xpos, feats)
    say_particle(d, entry, head)
    if auxiliary:
        auxiliary.attach(head, "aux")
    subject.head.attach(head, "nsubj")
    told = "present" if tense == "progressive" else tense
    return head, german.Verbal(entry, told, person, modal)


@cache
def _places() -> Choice[tuple[str, str]]:
    return Choice([("in", "in"), ("behind", "hinter"), ("near", "bei")],
                  weight=lambda p: 3.0 if p[0] == "in" else 1.0, form=lambda p: p[0])


def place(d: Derivation, head: Token, deprel: str = "obl", only_in: bool = False) -> str:
    """In the garden: attached to `head`; the German phrase."""
    english, de = d.pick(_places())
    if only_in and english != "in":
        raise DeadEnd
    adposition = d.emit(english, english, "ADP", "IN")
    phrase = noun_phrase(d, ("place",), ("the",), bare=False, adjective="no", number="Sing")
    adposition.attach(phrase.head, "case")
    phrase.head.attach(head, deprel)
    return german.preposition(de, phrase.forms["dat"])


TIMES = {"yesterday": "gestern", "today": "heute", "tomorrow": "morgen", "now": "jetzt",
         "again": "wieder"}


@cache
def _times(tense: str) -> Choice[str]:
    fits = {"past": ["yesterday", "today", "again"], "modal": ["tomorrow", "today", "again", "now"],
            "perfect": ["again"]}
    return Choice(fits.get(tense, ["today", "now", "again"]), form=lambda t: t)


def time(d: Derivation, head: Token, tense: str) -> str:
    """An adverb of time that fits the tense."""
    word = d.pick(_times(tense))
    if word in ("now", "again"):
        d.emit(word, word, "ADV", "RB").attach(head, "advmod")
    else:
        d.emit(word, word, "NOUN", "NN", "Number=Sing").attach(head, "obl:tmod")
    return TIMES[word]


ADJUNCTS = weighted(none=5, place=2, time=1.5, both=0.3)


def adjuncts(d: Derivation, head: Token, verbal: german.Verbal, near: bool = True) -> tuple[str, str]:
    """Perhaps a time and a place, in German order; `near` False: no place."""
    kind = d.pick(ADJUNCTS)
    where = place(d, head) if kind in ("place", "both") and near else ""
    tense = "modal" if verbal.modal else verbal.tense
    when = time(d, head, tense) if kind in ("time", "both") else ""
    return when, where


def middle(when: str, where: str, *objects: Nominal, case: str = "acc") -> list[str]:
    """The German middle field: pronouns, time, noun phrases, place."""
    short = [o.forms[case] for o in objects if o.pronoun]
    long = [o.forms[case] for o in objects if not o.pronoun]
    return [*short, when, *long, where]


def stop(d: Derivation, head: Token, mark: str = ".") -> None:
    """The final punctuation."""
    d.emit(mark, mark, "PUNCT", ".").attach(head, "punct")


def comma(d: Derivation) -> Token:
    """A comma, not attached yet."""
    token = d.emit(",", ",", "PUNCT", ",")
    token.deprel = "punct"
    return token


