"""Constructions of plain sentences; what is ambiguous in them is a word's number or tense."""

from __future__ import annotations

from . import german, phrases, predicates
from .clauses import (
    AFTER_RELATIVE,
    ASSERTED,
    BEAST,
    EMBEDDED,
    FRAME,
    FRAMES,
    clause,
    infinitive,
    say_object,
)
from .derivation import Choice, DeadEnd, Derivation, Token, weighted
from .german import Verbal, join, sentence
from .lexicon import Adjective, adjective_choice
from .phrases import Nominal

YESNO = weighted(yes=1, no=1)


def statement(d: Derivation) -> str:
    """The man saw the dog yesterday: in German, too, the verb comes second."""
    said = clause(d, phrases.subject(d))
    phrases.stop(d, said.head)
    return sentence(said.main())


def address(d: Derivation) -> str:
    """You must wait. Can you help me? One or many: du or ihr."""
    if d.pick(YESNO) == "yes":
        return ask(d, you=True)
    said = clause(d, phrases.pronoun(d, "Nom", "you"), tenses="address")
    phrases.stop(d, said.head)
    return sentence(said.main())


def animal_statement(d: Derivation) -> str:
    """The sheep slept: one or many?"""
    animal = phrases.noun_phrase(d, ("animal",))
    said = clause(d, animal, BEAST)
    phrases.stop(d, said.head)
    return sentence(said.main())


FRONT = {
    "yesterday": ("gestern", "past"),
    "today": ("heute", "simple"),
    "tomorrow": ("morgen", "modal"),
}
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


WH = {"where": "wo", "when": "wann", "why": "warum"}
WH_CHOICE = Choice(WH, form=lambda w: w)
ASK = weighted(do=2, did=2, modal=2)


def ask(d: Derivation, front: str = "", you: bool = False) -> str:
    """The part that yes-no and wh-questions share: auxiliary, subject, infinitive, object."""
    wh = d.emit(front, front, "ADV", "WRB", "PronType=Int") if front else None
    kind = "modal" if you else d.pick(ASK)
    modal = ""
    if kind == "modal":
        auxiliary, modal = predicates.say_modal(d)
    elif kind == "did":
        auxiliary = d.emit("did", "do", "AUX", "VBD", predicates.PAST)
    elif d.pick(YESNO) == "yes":
        auxiliary = d.emit("does", "do", "AUX", "VBZ", predicates.THIRD)
    else:
        auxiliary = d.emit("do", "do", "AUX", "VBP", predicates.PRESENT)
    beast = False
    if you:
        subject = phrases.pronoun(d, "Nom", "you")
    elif d.pick(phrases.MODIFIED) == "yes":
        beast, subject = True, phrases.noun_phrase(d, ("animal",))
    else:
        subject = phrases.subject(d)
    if kind == "do" and (auxiliary.form.lower() == "does") != subject.third_singular:
        raise DeadEnd
    verb_classes, object_classes = FRAMES[d.pick(BEAST if beast else FRAME)]
    head, entry = predicates.say_infinitive(d, verb_classes)
    if kind == "do":
        predicates.check_attested(entry, "present", subject.german_person)
    auxiliary.attach(head, "aux")
    subject.head.attach(head, "nsubj")
    if wh:
        wh.attach(head, "advmod")
    case = entry.case or "acc"
    objects = [say_object(d, head, object_classes, case)] if object_classes else []
    where = ""
    if not front and d.pick(phrases.MODIFIED) == "yes":
        where = predicates.place(d, head)
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


def say_copula(
    d: Derivation, subject: Nominal, adjectives: Choice[Adjective], tense: str
) -> tuple[Token, str, str]:
    """Be and a predicate adjective: (English head, German finite verb, German adjective)."""
    be = predicates.say_be(d, tense, subject.german_person)
    very = None
    if d.pick(phrases.MODIFIED) == "yes":
        very = d.emit("very", "very", "ADV", "RB")
    adjective = d.pick(adjectives)
    head = phrases.say_adjective(d, adjective)
    head.deprel = "root"
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
        subject = phrases.subject(d, ("person", "animal"), you=True)
        choice = STATE
    else:
        subject = phrases.noun_phrase(d, ("thing", "tool"), adjective="no")
        choice = QUALITY
    head, finite, adjective = say_copula(d, subject, choice, d.pick(TENSE))
    phrases.stop(d, head)
    return sentence(join([subject.forms["nom"], finite, adjective]))


MATRIX_TENSE = weighted(past=1, present=1)


def say_matrix(d: Derivation) -> tuple[Token, str, str]:
    """Anna believes, she said: (head, German main clause, tenses that can follow)."""
    person = d.pick(YESNO)
    subject = phrases.name(d) if person == "yes" else phrases.pronoun(d, "Nom", phrases.NO_YOU)
    head, verbal = predicates.verb_group(d, subject, ("say",), "simple")
    tenses = "past" if verbal.tense == "past" else "told"
    return head, verbal.main(subject.forms["nom"], []), tenses


SUBORDINATORS = {"because": "weil", "although": "obwohl", "while": "während"}
SUBORDINATOR = Choice(SUBORDINATORS, form=lambda w: w)


def subordinate(d: Derivation) -> str:
    """The man sleeps because he is tired: verb-final, after a comma."""
    # One tense for both clauses, so that they go together.
    tense = d.pick(TENSE)
    first = clause(d, phrases.subject(d), ASSERTED, tense, extras=False)
    word = d.pick(SUBORDINATOR)
    mark = d.emit(word, word, "SCONJ", "IN")
    if d.pick(YESNO) == "yes":
        second = clause(d, phrases.subject(d), EMBEDDED, tense, extras=False)
        head, german_clause = second.head, second.dependent()
    else:
        subject = phrases.subject(d)
        head, finite, adjective = say_copula(d, subject, STATE, tense)
        german_clause = join([subject.forms["nom"], adjective, finite])
    mark.attach(head, "mark")
    head.attach(first.head, "advcl")
    phrases.stop(d, first.head)
    return sentence(f"{first.main()}, {SUBORDINATORS[word]} {german_clause}")


def relative(d: Derivation) -> str:
    """The man who sings knows the girl: a relative clause between commas in German."""
    tense = d.pick(TENSE)
    person = phrases.noun_phrase(
        d, ("person",), ("the", "this", "these"), bare=False, adjective="no"
    )
    who = d.emit("who", "who", "PRON", "WP", "PronType=Rel")
    inner = Nominal(who, "3", person.number, person.gender, {})
    head, verbal = predicates.verb_group(d, inner, ("walk", "seeable"), tense)
    head.attach(person.head, "acl:relcl")
    where = predicates.place(d, head) if d.pick(YESNO) == "yes" else ""
    column = german.agreement_class(person.gender, person.number)
    clause_ = verbal.dependent(german.RELATIVE["nom"][column], ["", where])
    person.forms = {**person.forms, "nom": f"{person.forms['nom']}, {clause_},"}
    said = clause(d, person, AFTER_RELATIVE, tense, extras=False)
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
        feats = predicates.PAST if past else predicates.THIRD if third else predicates.PRESENT
        head = d.emit(form, "want", "VERB", xpos, feats)
        subject.head.attach(head, "nsubj")
        inner, verbal, field = infinitive(d, FRAME)
        finite = german.past("wollte", person) if past else german.IRREGULAR["wollen"][person]
        refl = [german.REFLEXIVE[person]] if verbal.verb.reflexive else []
        said = join([subject.forms["nom"], finite, *refl, *field, verbal.verb.german])
    else:
        head, outer = predicates.verb_group(d, subject, ("try",), tense)
        inner, verbal, field = infinitive(d, FRAME)
        refl = [german.REFLEXIVE[person]] if verbal.verb.reflexive else []
        zu = join([*refl, *field, german.to_infinitive(verbal.verb)])
        said = f"{outer.main(subject.forms['nom'], [])}, {zu}"
    inner.attach(head, "xcomp")
    phrases.stop(d, head)
    return sentence(said)


def put(d: Derivation) -> str:
    """They put the cup in the kitchen: the German goal is accusative, the tense of put open."""
    subject = phrases.subject(d)
    head, verbal = predicates.verb_group(d, subject, ("still-put",), "all")
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
    who = (
        phrases.pronoun(d, "Nom", phrases.NO_YOU)
        if d.pick(YESNO) == "yes"
        else (phrases.noun_phrase(d, ("person",)))
    )
    verb_classes, objects = STILL[d.pick(STILL_KIND)]
    head, verbal = predicates.verb_group(d, who, verb_classes, "simple")
    from .clauses import say_object

    thing = say_object(d, head, objects, "acc")
    when, where = predicates.adjuncts(d, head, verbal)
    phrases.stop(d, head)
    return sentence(verbal.main(who.forms["nom"], phrases.middle(when, where, thing)))


STILL_KIND = weighted(animate=2, text=1, food=1, closable=1)
STILL = {
    "animate": (("still-animate",), ("person", "animal")),
    "text": (("still-text",), ("text",)),
    "food": (("still-food",), ("food",)),
    "closable": (("still-closable",), ("closable",)),
}
