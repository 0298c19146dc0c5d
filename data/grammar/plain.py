"""Constructions of plain sentences; what is ambiguous in them is a word's number or tense."""

from __future__ import annotations

from . import german, phrases
from .clauses import FRAME, EMBEDDED, clause, infinitive
from .derivation import Choice, Derivation, weighted
from .german import Verbal, join, sentence
from .lexicon import adjective_choice
from .phrases import Nominal

LIVING = ("person", "animal")
YESNO = weighted(yes=1, no=1)


def statement(d: Derivation) -> str:
    """The man saw the dog yesterday. Das Verb an zweiter Stelle."""
    said = clause(d, phrases.subject(d, you=True))
    phrases.stop(d, said.head)
    return sentence(said.main())


BEAST = weighted(beast=2, hunt=1)


def animal_statement(d: Derivation) -> str:
    """The sheep slept: one or many?"""
    animal = phrases.noun_phrase(d, ("animal",))
    said = clause(d, animal, BEAST)
    phrases.stop(d, said.head)
    return sentence(said.main())


FRONT = {"yesterday": ("gestern", "past"), "today": ("heute", "simple"), "tomorrow": ("morgen", "modal-only")}
FRONT_CHOICE = Choice(FRONT, form=lambda w: w)


def fronted(d: Derivation) -> str:
    """Yesterday the man slept: German keeps the verb second."""
    word = d.pick(FRONT_CHOICE)
    adverb = d.emit(word, word, "NOUN", "NN", "Number=Sing")
    subject = phrases.subject(d)
    said = clause(d, subject, tenses=FRONT[word][1], extras=False)
    adverb.attach(said.head, "obl:tmod")
    phrases.stop(d, said.head)
    return sentence(said.main(FRONT[word][0]))


phrases.TENSES["modal-only"] = weighted(modal=1)
WH = {"where": "wo", "when": "wann", "why": "warum"}
WH_CHOICE = Choice(WH, form=lambda w: w)
ASK = weighted(do=2, did=2, modal=2)


def ask(d: Derivation, front: str = "") -> str:
    """The part that yes-no and wh-questions share: auxiliary, subject, infinitive, object."""
    wh = d.emit(front, front, "ADV", "WRB", "PronType=Int") if front else None
    kind = d.pick(ASK)
    modal = ""
    third = phrases.THIRD
    if kind == "modal":
        auxiliary, modal = phrases.say_modal(d)
    elif kind == "did":
        auxiliary = d.emit("did", "do", "AUX", "VBD", phrases.PAST)
    elif d.pick(YESNO) == "yes":
        auxiliary = d.emit("does", "do", "AUX", "VBZ", third)
    else:
        auxiliary = d.emit("do", "do", "AUX", "VBP", phrases.PRESENT)
    beast = d.pick(phrases.MODIFIED) == "yes"
    subject = phrases.noun_phrase(d, ("animal",)) if beast else phrases.subject(d, you=True)
    if kind == "do" and (auxiliary.form.lower() == "does") != subject.third_singular:
        raise phrases.DeadEnd
    from .clauses import FRAMES, say_object

    verb_classes, object_classes = FRAMES[d.pick(BEAST if beast else FRAME)]
    head, entry = phrases.say_infinitive(d, verb_classes)
    auxiliary.attach(head, "aux")
    subject.head.attach(head, "nsubj")
    if wh:
        wh.attach(head, "advmod")
    case = entry.case or "acc"
    objects = [say_object(d, head, object_classes, case)] if object_classes else []
    where = ""
    if not front and d.pick(phrases.MODIFIED) == "yes":
        where = phrases.place(d, head)
    phrases.stop(d, head, "?")
    tense = "past" if kind == "did" else "present"
    verbal = Verbal(entry, tense, subject.german_person, modal)
    field = phrases.middle("", where, *objects, case=case)
    asked = verbal.question(subject.forms["nom"], field, WH.get(front, ""))
    return sentence(asked, "?")


def yes_no_question(d: Derivation) -> str:
    """Does the man sleep? Verb first."""
    return ask(d)


def wh_question(d: Derivation) -> str:
    """Where did the man sleep? Wo schlief der Mann?"""
    return ask(d, d.pick(WH_CHOICE))


STATE = adjective_choice("state")
QUALITY = adjective_choice("quality")
TENSE = weighted(past=1, present=1)


def say_copula(d: Derivation, subject: Nominal, adjectives_: Choice, tense: str) -> tuple:  # type: ignore[type-arg]
    """Be and a predicate adjective: (English head, German finite verb, German adjective)."""
    be = phrases.say_be(d, tense, subject.german_person)
    very = None
    if d.pick(phrases.MODIFIED) == "yes":
        very = d.emit("very", "very", "ADV", "RB")
    adjective = d.pick(adjectives_)
    head = phrases.say_adjective(d, adjective)
    head.attach(head, "root")
    head.head = None
    be.attach(head, "cop")
    subject.head.attach(head, "nsubj")
    if very:
        very.attach(head, "advmod")
    forms = german.IRREGULAR["sein"]
    person = subject.german_person
    finite = forms[person] if tense == "present" else german.past("war", person)
    return head, finite, join(["sehr" if very else "", adjective.german])


def copula(d: Derivation) -> str:
    """The old dog was very tired."""
    living = d.pick(YESNO) == "yes"
    if living:
        subject = phrases.subject(d, LIVING, you=True)
        choice = STATE
    else:
        subject = phrases.noun_phrase(d, ("thing", "tool", "seen"), adjective="no")
        choice = QUALITY
    head, finite, adjective = say_copula(d, subject, choice, d.pick(TENSE))
    phrases.stop(d, head)
    return sentence(join([subject.forms["nom"], finite, adjective]))


MATRIX_TENSE = weighted(past=1, present=1)


def say_matrix(d: Derivation) -> tuple:  # type: ignore[type-arg]
    """Anna believes, the woman said: (head, German main clause)."""
    person = d.pick(YESNO)
    subject = phrases.name(d) if person == "yes" else phrases.pronoun(d, "Nom", phrases.NO_YOU)
    head, verbal = phrases.verb_group(d, subject, ("say",), "simple")
    return head, verbal.main(subject.forms["nom"], [])


SUBORDINATORS = {"because": "weil", "although": "obwohl", "if": "wenn"}
SUBORDINATOR = Choice(SUBORDINATORS, form=lambda w: w)


def subordinate(d: Derivation) -> str:
    """The man sleeps because he is tired: verb-final, after a comma."""
    first = clause(d, phrases.subject(d), weighted(intransitive=2, person=1, thing=1), "told",
                   extras=False)
    word = d.pick(SUBORDINATOR)
    mark = d.emit(word, word, "SCONJ", "IN")
    if d.pick(YESNO) == "yes":
        second = clause(d, phrases.subject(d), EMBEDDED, "told", extras=False)
        head, german_clause = second.head, second.dependent()
    else:
        subject = phrases.subject(d)
        head, finite, adjective = say_copula(d, subject, STATE, d.pick(TENSE))
        german_clause = join([subject.forms["nom"], adjective, finite])
    mark.attach(head, "mark")
    head.attach(first.head, "advcl")
    phrases.stop(d, first.head)
    return sentence(f"{first.main()}, {SUBORDINATORS[word]} {german_clause}")


def relative(d: Derivation) -> str:
    """The man who sings knows the girl: a relative clause between commas in German."""
    person = phrases.noun_phrase(d, ("person",), ("the", "this", "these"), bare=False,
                                 adjective="no")
    who = d.emit("who", "who", "PRON", "WP", "PronType=Rel")
    inner = Nominal(who, "3", person.number, person.gender, {})
    head, verbal = phrases.verb_group(d, inner, ("walk", "seeable"), "simple")
    head.attach(person.head, "acl:relcl")
    where = phrases.place(d, head) if d.pick(YESNO) == "yes" else ""
    column = german.agreement_class(person.gender, person.number)
    clause_ = verbal.dependent(german.RELATIVE["nom"][column], ["", where])
    person.forms = {**person.forms, "nom": f"{person.forms['nom']}, {clause_},"}
    said = clause(d, person, weighted(animate=1, thing=1, person=1), "simple", extras=False)
    phrases.stop(d, said.head)
    return sentence(said.main())


WANT = weighted(want=2, control=1)


def wish(d: Derivation) -> str:
    """Anna wants to buy the hat. Anna will den Hut kaufen."""
    subject = phrases.subject(d)
    tense = d.pick(TENSE)
    third, person = subject.third_singular, subject.german_person
    if d.pick(WANT) == "want":
        past = tense == "past"
        form = "wanted" if past else "wants" if third else "want"
        xpos = "VBD" if past else "VBZ" if third else "VBP"
        feats = phrases.PAST if past else phrases.THIRD if third else phrases.PRESENT
        head = d.emit(form, "want", "VERB", xpos, feats)
        subject.head.attach(head, "nsubj")
        inner, verbal, field = infinitive(d, FRAME)
        finite = german.past("wollte", person) if past else german.IRREGULAR["wollen"][person]
        refl = [german.REFLEXIVE[person]] if verbal.verb.reflexive else []
        said = join([subject.forms["nom"], finite, *refl, *field, verbal.verb.german])
    else:
        head, outer = phrases.verb_group(d, subject, ("try",), tense)
        inner, verbal, field = infinitive(d, FRAME)
        refl = [german.REFLEXIVE[person]] if verbal.verb.reflexive else []
        zu = join([*refl, *field, german.to_infinitive(verbal.verb)])
        said = f"{outer.main(subject.forms['nom'], [])}, {zu}"
    inner.attach(head, "xcomp")
    phrases.stop(d, head)
    return sentence(said)


def put(d: Derivation) -> str:
    """They put the cup near the door: directional accusative, tense of put."""
    subject = phrases.subject(d)
    head, verbal = phrases.verb_group(d, subject, ("still-put",), "all")
    thing = phrases.noun_phrase(d, ("put",))
    thing.head.attach(head, "obj")
    adposition = d.emit("in", "in", "ADP", "IN")
    goal = phrases.noun_phrase(d, ("place",), ("the",), bare=False, adjective="no", number="Sing")
    adposition.attach(goal.head, "case")
    goal.head.attach(head, "obl")
    phrases.stop(d, head)
    field = phrases.middle("", german.preposition("in", goal.forms["acc"]), thing)
    return sentence(verbal.main(subject.forms["nom"], field))


def still_verbs(d: Derivation) -> str:
    """They cut the bread: present or past?"""
    who = phrases.pronoun(d, "Nom", "I we they he she") if d.pick(YESNO) == "yes" else (
        phrases.noun_phrase(d, ("person",)))
    kinds = weighted(animate=2, text=1, food=1, closable=1)
    verb_classes, objects = STILL[d.pick(kinds)]
    head, verbal = phrases.verb_group(d, who, verb_classes, "simple")
    from .clauses import say_object

    thing = say_object(d, head, objects, "acc")
    when, where = phrases.adjuncts(d, head, verbal)
    phrases.stop(d, head)
    return sentence(verbal.main(who.forms["nom"], phrases.middle(when, where, thing)))


STILL = {
    "animate": (("still-animate",), ("person", "animal")),
    "text": (("still-text",), ("text",)),
    "food": (("still-food",), ("food",)),
    "closable": (("still-closable",), ("closable",)),
}
