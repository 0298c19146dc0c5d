"""Constructions that can be read in two ways, and beside them what tells the readings apart."""

from __future__ import annotations

from . import german, phrases, predicates
from .clauses import ASSERTED, MATCHING, clause
from .derivation import Choice, DeadEnd, Derivation, Token, weighted
from .german import join, sentence
from .lexicon import Verb, adjective_choice, verb
from .phrases import Nominal
from .plain import YESNO, say_matrix

# The weights below balance the readings of an ambiguous sentence.
READ = weighted(noun=1, verb=1.3)
SEEN_READ = weighted(noun=1.9, verb=1)
PERCEIVE = {
    "see": (("seeable",), ("seen",)),
    "hear": (("hearable",), ("heard",)),
}
PERCEPTION = weighted(see=3, hear=1)
PERCEIVED = weighted(she=5, he=1, they=1)


def perception(d: Derivation) -> str:
    """I saw her duck: her animal (NOUN), or what she did (VERB)."""
    subject = phrases.subject(d)
    kind = d.pick(PERCEPTION)
    head, verbal = perceive(d, subject, kind)
    verbs, nouns = PERCEIVE[kind]
    if d.pick(SEEN_READ) == "noun":
        form = d.pick(PERCEIVED_DETERMINERS)
        seen = phrases.noun_phrase(d, nouns, (form,), bare=False, adjective="no")
        seen.head.attach(head, "obj")
        field = phrases.middle("", place_or_nothing(d, head), seen)
        said = verbal.main(subject.forms["nom"], field)
    else:
        who = d.pick(PERCEIVED)
        person = phrases.pronoun(d, "Acc", who)
        person.head.attach(head, "obj")
        inner, entry = predicates.say_infinitive(d, verbs)
        inner.attach(head, "xcomp")
        where = place_or_nothing(d, inner)
        refl = "sich" if entry.reflexive else ""
        field = [person.forms["acc"], refl, where, entry.german]
        said = verbal.main(subject.forms["nom"], field)
    phrases.stop(d, head)
    return sentence(said)


PERCEIVED_DETERMINERS = Choice(
    ("her", "his", "the", "their", "my"),
    form=lambda f: f,
    weight=lambda f: 8.0 if f == "her" else 0.7,
)
SEE_TENSE = weighted(past=3, present=2)


def perceive(d: Derivation, subject: Nominal, kind: str) -> tuple[Token, german.Verbal]:
    """A form of see or hear."""
    entry = verb(kind)
    tense = d.pick(SEE_TENSE)
    if tense == "past":
        form, xpos, feats = entry.past, "VBD", predicates.PAST
    elif subject.third_singular:
        form, xpos, feats = entry.third, "VBZ", predicates.THIRD
    else:
        form, xpos, feats = entry.lemma, "VBP", predicates.PRESENT
    head = d.emit(form, kind, "VERB", xpos, feats)
    subject.head.attach(head, "nsubj")
    return head, german.Verbal(entry, tense, subject.german_person)


def place_or_nothing(d: Derivation, head: Token) -> str:
    """A place half of the time."""
    return predicates.place(d, head) if d.pick(YESNO) == "yes" else ""


ING = adjective_choice("ing")
BOTHERED = ("person",)
BE = weighted(past=1, present=2)


def say_ing_phrase(d: Derivation) -> Nominal:
    """Annoying children: adjective and bare plural noun."""
    adjective = d.pick(ING)
    modifier = phrases.say_adjective(d, adjective)
    entry = d.pick(phrases.noun_choice(BOTHERED, "Plur", True))
    noun = phrases.say_noun(d, entry, "Plur")
    modifier.attach(noun, "amod")
    return phrases.nominal(noun, "", "Plur", entry, adjective.german)


def say_gerund(d: Derivation, feats: str) -> tuple[Token, Verb]:
    """The annoying of annoying children, as a verb."""
    entry = d.pick(predicates.verb_choice(("ing",), "ing"))
    head = d.emit(entry.ing, entry.lemma, "VERB", "VBG", feats)
    return head, entry


BARE = weighted(bare=3, determined=1)


def say_bothered(d: Derivation) -> Nominal:
    """The object of annoying: most often a bare plural, as without a determiner all is open."""
    if d.pick(BARE) == "bare":
        return phrases.noun_phrase(d, BOTHERED, (), number="Plur", adjective="no")
    return phrases.noun_phrase(d, BOTHERED, ("the", "my", "his"), bare=False, adjective="no")


GERUND = "VerbForm=Ger"
PROGRESSIVE = "Tense=Pres|VerbForm=Part"
SUBJECT_OF_ING = weighted(they=3, we=1, noun=3, single=1)


def participle(d: Derivation) -> str:
    """They are annoying children: what they do (VERB), or what they are (ADJ)."""
    kind = d.pick(SUBJECT_OF_ING)
    if kind == "noun":
        subject = phrases.noun_phrase(
            d,
            ("person",),
            ("the", "my", "these", "her", "two"),
            bare=False,
            number="Plur",
            adjective="no",
        )
    elif kind == "single":
        subject = phrases.pronoun(d, "Nom", "he she")
    else:
        subject = phrases.pronoun(d, "Nom", kind)
    be = predicates.say_be(d, "present", subject.german_person)
    person = subject.german_person
    if kind != "single" and d.pick(READ) == "noun":
        thing = say_ing_phrase(d)
        head = thing.head
        be.attach(head, "cop")
        said = join([subject.forms["nom"], german.IRREGULAR["sein"][person], thing.forms["nom"]])
    else:
        head, entry = say_gerund(d, PROGRESSIVE)
        be.attach(head, "aux")
        thing = say_bothered(d)
        thing.head.attach(head, "obj")
        verbal = german.Verbal(entry, "present", person)
        said = verbal.main(subject.forms["nom"], [thing.forms[entry.case]])
    subject.head.attach(head, "nsubj")
    phrases.stop(d, head)
    return sentence(said)


VERDICT = adjective_choice("verdict")
JUDGED = weighted(modal=3, be=1)


def verdict(d: Derivation) -> str:
    """Annoying children can be dangerous: doing so (VERB), or such children (ADJ)."""
    if d.pick(READ) == "noun":
        subject = say_ing_phrase(d)
        said, outer, deprel, plural = subject.forms["nom"], subject.head, "nsubj", True
    else:
        outer, entry = say_gerund(d, GERUND)
        thing = say_bothered(d)
        thing.head.attach(outer, "obj")
        said = join([thing.forms[entry.case], german.to_infinitive(entry)])
        deprel, plural = "csubj", False
    person = 5 if plural else 2
    if d.pick(JUDGED) == "modal":
        auxiliary, modal = predicates.say_modal(d)
        be = d.emit("be", "be", "AUX", "VB", "VerbForm=Inf")
        finite, close = german.IRREGULAR[modal][person], "sein"
    else:
        auxiliary, be = None, predicates.say_be(d, "present", person)
        finite, close = german.IRREGULAR["sein"][person], ""
    adjective = d.pick(VERDICT)
    head = phrases.say_adjective(d, adjective)
    head.deprel = "root"
    if auxiliary:
        auxiliary.attach(head, "aux")
    be.attach(head, "cop")
    outer.attach(head, deprel)
    phrases.stop(d, head)
    return sentence(join([said, finite, adjective.german, close]))


def enjoy(d: Derivation) -> str:
    """They love annoying children: es, Kinder zu ärgern; or nervige Kinder."""
    subject = phrases.subject(d)
    head, verbal = predicates.verb_group(d, subject, ("enjoy",), "told")
    if d.pick(READ) == "noun":
        thing = say_ing_phrase(d)
        thing.head.attach(head, "obj")
        said = verbal.main(subject.forms["nom"], [thing.forms["acc"]])
    else:
        inner, entry = say_gerund(d, GERUND)
        inner.attach(head, "xcomp")
        thing = say_bothered(d)
        thing.head.attach(inner, "obj")
        zu = join([thing.forms[entry.case], german.to_infinitive(entry)])
        said = f"{verbal.main(subject.forms['nom'], ['es'])}, {zu}"
    phrases.stop(d, head)
    return sentence(said)


EVENT = weighted(noun=1, verb=1)
SHUT = adjective_choice("shut")


def state_or_event(d: Derivation) -> str:
    """The door was closed: wurde geschlossen (VERB), or war geschlossen (ADJ)."""
    thing = phrases.noun_phrase(d, ("closable",))
    tense = "past"
    if d.pick(EVENT) == "noun":
        be = predicates.say_be(d, tense, thing.german_person)
        adjective = d.pick(SHUT)
        head = phrases.say_adjective(d, adjective)
        head.deprel = "root"
        be.attach(head, "cop")
        finite, close = german.past("war", thing.german_person), adjective.german
        deprel = "nsubj"
    else:
        be = predicates.say_be(d, tense, thing.german_person)
        entry = d.pick(predicates.verb_choice(("shut",), "participle"))
        head = d.emit(
            entry.participle, entry.lemma, "VERB", "VBN", "Tense=Past|VerbForm=Part|Voice=Pass"
        )
        be.attach(head, "aux:pass")
        finite, close = german.past("wurde", thing.german_person), entry.german_participle
        deprel = "nsubj:pass"
    thing.head.attach(head, deprel)
    when = predicates.time(d, head, tense) if d.pick(YESNO) == "yes" else ""
    phrases.stop(d, head)
    return sentence(join([thing.forms["nom"], finite, when, close]))


CONTENT = weighted(mark=2, determiner=1, sheep=2)


def content(d: Derivation) -> str:
    """They believe that sheep can swim: SCONJ and many sheep, or DET and one."""
    head, matrix, tenses = say_matrix(d)
    kind = d.pick(CONTENT)
    mark = None
    if kind == "mark":
        mark = d.emit("that", "that", "SCONJ", "IN")
        subject = phrases.subject(d)
        said = clause(d, subject, ASSERTED, tenses, extras=False)
    elif kind == "determiner":
        subject = phrases.noun_phrase(d, ("person",), ("that",), bare=False, adjective="no")
        said = clause(d, subject, INTRANSITIVE, tenses, extras=False)
    else:
        # Bare plurals after the conjunction, to balance the two readings of "that sheep".
        if d.pick(EVENT) == "noun":
            mark = d.emit("that", "that", "SCONJ", "IN")
            subject = phrases.noun_phrase(d, ("same",), (), number="Plur", adjective="no")
        else:
            subject = phrases.noun_phrase(d, ("same",), ("that",), bare=False, adjective="no")
        said = clause(d, subject, BEASTLY, tenses, extras=False)
    said.head.attach(head, "ccomp")
    if mark:
        mark.attach(said.head, "mark")
    phrases.stop(d, head)
    return sentence(f"{matrix}, dass {said.dependent()}")


INTRANSITIVE = weighted(intransitive=1)
BEASTLY = weighted(beast=1)


def tongue(d: Derivation) -> str:
    """The French teacher: der französische Lehrer (ADJ), der Französischlehrer (PROPN)."""
    if d.pick(YESNO) == "yes":
        subject = phrases.tongue_phrase(d)
        if subject.noun and "person" not in subject.noun.classes:
            raise DeadEnd
        said = clause(d, subject, MATCHING, "all")
        phrases.stop(d, said.head)
        return sentence(said.main())
    subject = phrases.subject(d)
    head, verbal = predicates.verb_group(d, subject, ("person", "thing"), "all")
    thing = phrases.tongue_phrase(d)
    living = bool(thing.noun and "person" in thing.noun.classes)
    if living != ("person" in verbal.verb.classes):
        raise DeadEnd
    thing.head.attach(head, "obj")
    phrases.stop(d, head)
    return sentence(verbal.main(subject.forms["nom"], [thing.forms[verbal.verb.case]]))
