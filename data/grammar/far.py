"""Sentences in which a head decides, near or far, and no tag does: whom a relative clause is about.

    The king saw the dog near the horse behind the goat that slept.

Either animal may have slept. German tells which one, by the pronoun and the number of the verb.
Parts of speech and relations are the same in all readings; only the head of the clause differs.
"""

from __future__ import annotations

from functools import cache

from . import german, phrases, predicates
from .derivation import Choice, Derivation
from .german import Verbal, join, sentence
from .lexicon import Noun, nouns
from .phrases import Nominal

CHAIN = Choice((2, 3, 4), weight={2: 1.0, 3: 1.5, 4: 1.0}.__getitem__)
DETERMINERS = {"Sing": ("the", "this", "my"), "Plur": ("the", "these", "my", "two")}
BETWEEN = Choice([("near", "bei"), ("behind", "hinter")], form=lambda pair: pair[0])


@cache
def _columns(letters: str) -> Choice[str]:
    """What German tells apart: masculine, feminine, neuter, plural."""
    return Choice(letters)


@cache
def _animals(column: str) -> Choice[Noun]:
    """Not those whose number is another ambiguity, as sheep."""
    fits = [n for n in nouns("animal") if n.plural != n.english and column in ("p", n.gender)]
    return Choice(fits, form=lambda n: n.plural if column == "p" else n.english)


@cache
def _which(count: int) -> Choice[int]:
    return Choice(range(count))


def say_chain(d: Derivation, case: str) -> tuple[list[Nominal], str]:
    """The dog near the horse behind the goat: the nouns, which differ in German; their German."""
    chain: list[Nominal] = []
    phrases_german, columns = [], "mfnp"
    for number in range(d.pick(CHAIN)):
        between = d.pick(BETWEEN) if number else None
        adposition = d.emit(between[0], between[0], "ADP", "IN") if between else None
        column = d.pick(_columns(columns))
        columns = columns.replace(column, "")
        grammatical = "Plur" if column == "p" else "Sing"
        form = d.pick(phrases.determiner_choice(DETERMINERS[grammatical], False))
        article = phrases.say_determiner(d, form)
        entry = d.pick(_animals(column))
        head = phrases.say_noun(d, entry, grammatical)
        if article:
            article.attach(head, article.deprel)
        noun = phrases.nominal(head, form, grammatical, entry)
        if between and adposition:
            adposition.attach(head, "case")
            head.attach(chain[-1].head, "nmod")
            phrases_german.append(german.preposition(between[1], noun.forms["dat"]))
        else:
            phrases_german.append(noun.forms[case])
        chain.append(noun)
    return chain, join(phrases_german)


def far_relative(d: Derivation) -> str:
    """We saw the dog near the horse that slept: das Pferd schlief, or der Hund."""
    subject = phrases.subject(d)
    head, verbal = predicates.verb_group(d, subject, ("notice",), "past")
    chain, objects = say_chain(d, verbal.verb.case or "acc")
    chain[0].head.attach(head, "obj")
    that = d.emit("that", "that", "PRON", "WDT", "PronType=Rel")
    owner = chain[d.pick(_which(len(chain)))]
    entry = d.pick(predicates.verb_choice(("beast",), "past"))
    inner = d.emit(entry.past, entry.lemma, "VERB", "VBD", predicates.PAST)
    predicates.say_particle(d, entry, inner)
    that.attach(inner, "nsubj")
    inner.attach(owner.head, "acl:relcl")
    phrases.stop(d, head)
    pronoun = german.RELATIVE["nom"][german.agreement_class(owner.gender, owner.number)]
    clause = Verbal(entry, "past", owner.german_person).dependent(pronoun, [])
    return sentence(f"{verbal.main(subject.forms['nom'], [objects])}, {clause}")
