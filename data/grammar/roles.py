"""Ambiguities that parts of speech do not settle: who gets what, and which clause modifies what."""

from __future__ import annotations

from . import german, phrases, predicates
from .clauses import TRANSITIVE, infinitive
from .derivation import Choice, DeadEnd, Derivation, weighted
from .german import Verbal, join, sentence
from .lexicon import noun
from .phrases import Nominal
from .plain import YESNO

RECEIVED = weighted(compound=1, owned=1)
COMPOUND = {"dog": "Hunde", "cat": "Katzen", "horse": "Pferde", "bird": "Vogel"}
FEED = {"food": ("Sing",), "biscuit": ("Plur",), "blanket": ("Plur",)}
PETS = Choice(COMPOUND, form=lambda n: n)
FED = Choice(FEED, form=lambda n: noun(n).english if "Sing" in FEED[n] else noun(n).plural)
PLAIN_DETERMINERS = ("the", "a", "my", "his", "this", "these", "two")
GIFT = weighted(pet=3, other=1.5)
RECEIVER = weighted(she=4, he=1, they=1, we=0.5, I=0.5)


def gift(d: Derivation) -> str:
    """I gave her dog biscuits: ihr Hundekekse, or ihrem Hund Kekse."""
    subject = phrases.subject(d)
    head, verbal = predicates.verb_group(d, subject, ("gift",), "all")
    if d.pick(GIFT) == "other":
        if d.pick(YESNO) == "yes":
            receiver = phrases.pronoun(d, "Acc", "I he she we they")
        else:
            receiver = phrases.noun_phrase(
                d, ("person",), PLAIN_DETERMINERS, bare=False, adjective="no"
            )
        present = phrases.noun_phrase(
            d, ("thing", "text"), ("the", "a", "an", "two", "this"), bare=False
        )
    elif d.pick(RECEIVED) == "compound":
        receiver = phrases.pronoun(d, "Acc", d.pick(RECEIVER))
        pet = d.pick(PETS)
        first = phrases.say_noun(d, noun(pet), "Sing")
        present = say_fed(d, COMPOUND[pet])
        first.attach(present.head, "compound")
    else:
        form = d.pick(OWNER)
        owner = phrases.say_determiner(d, form)
        entry = noun(d.pick(PETS))
        pet_head = phrases.say_noun(d, entry, "Sing")
        if owner:
            owner.attach(pet_head, owner.deprel)
        receiver = phrases.nominal(pet_head, form, "Sing", entry)
        present = say_fed(d, "")
    receiver.head.attach(head, "iobj")
    present.head.attach(head, "obj")
    phrases.stop(d, head)
    field = [receiver.forms["dat"], present.forms["acc"]]
    return sentence(verbal.main(subject.forms["nom"], field))


OWNER = Choice(
    ("her", "his", "the", "their", "my"),
    form=lambda f: f,
    weight=lambda f: 4.0 if f == "her" else 0.6,
)


def say_fed(d: Derivation, compound: str) -> Nominal:
    """Food, biscuits or blankets, in German perhaps with a first part of a compound."""
    entry = noun(d.pick(FED))
    number = FEED[entry.english][0]
    head = phrases.say_noun(d, entry, number)
    return phrases.nominal(head, "", number, entry, compound=compound)


CALLED = weighted(pronoun=1, noun=2)
SENSE = weighted(summon=1, name=1)


def called(d: Derivation) -> str:
    """They called the man a doctor: dem Mann einen Arzt rufen, den Mann einen Arzt nennen."""
    subject = phrases.subject(d)
    sense = d.pick(SENSE)
    head, verbal = predicates.verb_group(d, subject, (sense,), "all")
    if d.pick(CALLED) == "pronoun":
        whom = phrases.pronoun(d, "Acc", "I he she")
    else:
        whom = phrases.noun_phrase(
            d, ("person",), ("the", "my", "this", "his"), bare=False, adjective="no", number="Sing"
        )
    what = phrases.noun_phrase(d, ("job",), ("a", "an"), bare=False)
    whom.head.attach(head, "iobj" if sense == "summon" else "obj")
    what.head.attach(head, "obj" if sense == "summon" else "xcomp")
    case = "dat" if sense == "summon" else "acc"
    phrases.stop(d, head)
    return sentence(verbal.main(subject.forms["nom"], [whom.forms[case], what.forms["acc"]]))


ATTACH = weighted(verb=1, noun=1, pronoun=0.3, subject=0.3)


def say_tool(d: Derivation) -> tuple[Nominal, str]:
    """With the telescope: (the phrase, its German)."""
    adposition = d.emit("with", "with", "ADP", "IN")
    tool = phrases.noun_phrase(
        d, ("tool",), ("the", "a"), bare=False, adjective="no", number="Sing"
    )
    adposition.attach(tool.head, "case")
    return tool, f"mit {tool.forms['dat']}"


def tool(d: Derivation) -> str:
    """I watched a man with the telescope: whose telescope? German: before or after the man."""
    kind = d.pick(ATTACH)
    if kind == "subject":
        subject = phrases.noun_phrase(d, ("person",), ("the", "this"), bare=False, adjective="no")
        thing, said = say_tool(d)
        thing.head.attach(subject.head, "nmod")
        head, verbal = predicates.verb_group(d, subject, ("walk", "seeable"), "simple")
        phrases.stop(d, head)
        return sentence(verbal.main(join([subject.forms["nom"], said]), []))
    subject = phrases.subject(d)
    head, verbal = predicates.verb_group(d, subject, ("with",), "all")
    if kind == "pronoun":
        whom = phrases.pronoun(d, "Acc", "I he she we they")
    else:
        whom = phrases.noun_phrase(d, ("person",), ("a", "two", "three"), adjective="no")
    whom.head.attach(head, "obj")
    thing, said = say_tool(d)
    thing.head.attach(whom.head if kind == "noun" else head, "nmod" if kind == "noun" else "obl")
    phrases.stop(d, head)
    obj = whom.forms[verbal.verb.case]
    field = [said, obj] if kind == "verb" else [obj, said]
    return sentence(verbal.main(subject.forms["nom"], field))


MODIFIES = weighted(noun=1, verb=1)
SEEN_DOING = ("person",)
DOING = ("walk", "seeable")


def doing(d: Derivation) -> str:
    """I met the man swimming in the lake: he swam (acl), or I did (advcl)."""
    subject = phrases.subject(d)
    head, verbal = predicates.verb_group(d, subject, ("spot",), "past")
    whom = phrases.noun_phrase(
        d, ("person",), ("the", "a", "my", "his", "two"), bare=False, adjective="no"
    )
    if whom.noun == subject.noun:
        raise DeadEnd
    whom.head.attach(head, "obj")
    reading = d.pick(MODIFIES)
    entry = d.pick(predicates.verb_choice(DOING, "ing"))
    inner = d.emit(entry.ing, entry.lemma, "VERB", "VBG", "Tense=Pres|VerbForm=Part")
    where = predicates.place(d, inner)
    who, word = (whom, "") if reading == "noun" else (subject, "während")
    inner.attach(whom.head if reading == "noun" else head, "acl" if reading == "noun" else "advcl")
    column = german.agreement_class(who.gender, who.number)
    pronoun = german.RELATIVE["nom"][column] if reading == "noun" else back_pronoun(subject)
    tail = Verbal(entry, "past", who.german_person).dependent(pronoun, [where])
    phrases.stop(d, head)
    said = verbal.main(subject.forms["nom"], [whom.forms[verbal.verb.case]])
    return sentence(f"{said}, {join([word, tail])}")


def back_pronoun(subject: Nominal) -> str:
    """The nominative pronoun that refers to a subject again."""
    if subject.pronoun:
        return subject.forms["nom"]
    if subject.number == "Plur":
        return "sie"
    return {"m": "er", "f": "sie", "n": "es"}[subject.gender]


def purpose(d: Derivation) -> str:
    """I need a doctor to help the child: der hilft (acl), or um zu helfen (advcl)."""
    subject = phrases.subject(d)
    head, verbal = predicates.verb_group(d, subject, ("seek",), "all")
    whom = phrases.noun_phrase(d, ("job",), ("a", "an", "two", "three"), adjective="no")
    whom.head.attach(head, "obj")
    reading = d.pick(MODIFIES)
    inner, entry, field = infinitive(d, TRANSITIVE)
    inner.attach(whom.head if reading == "noun" else head, "acl" if reading == "noun" else "advcl")
    phrases.stop(d, head)
    said = verbal.main(subject.forms["nom"], [whom.forms[verbal.verb.case]])
    if reading == "verb":
        zu = join([*field, german.to_infinitive(entry.verb)])
        return sentence(f"{said}, um {zu}")
    column = german.agreement_class(whom.gender, whom.number)
    able = Verbal(entry.verb, "present", whom.german_person)
    return sentence(f"{said}, {able.dependent(german.RELATIVE['nom'][column], field)}")
