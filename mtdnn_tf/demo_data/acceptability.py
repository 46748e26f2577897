"""Acceptability: minimal pairs of a good and a bad sentence made of the same words.

A function per phenomenon returns `(good, bad)`. Nearly all pairs have identical bags of words, so
only structure tells them apart.
"""

from collections.abc import Callable
from random import Random

from mtdnn_tf.demo_data.example import Example
from mtdnn_tf.demo_data.grammar import NounPhrase, choose_people, sentence
from mtdnn_tf.demo_data.lexicon import Lexicon

MinimalPair = tuple[str, str]
PREPOSITIONS = ("near", "beside", "behind", "opposite", "next to")
ADVERBS = ("quickly", "quietly", "slowly", "secretly", "carefully", "proudly", "calmly")


def two_people(rng: Random, lexicon: Lexicon) -> tuple[NounPhrase, NounPhrase]:
    """Two definite noun phrases of different number."""
    first, second = rng.sample(lexicon.people, 2)
    plural = rng.random() < 0.5
    return NounPhrase(first, plural=plural), NounPhrase(second, plural=not plural)


def present_predicate(rng: Random, lexicon: Lexicon, plural: bool) -> str:
    """A predicate in the present that agrees with a subject of that number."""
    if rng.random() < 0.5:
        return lexicon.choose_verb(rng, "intransitive").present(plural)
    verb = lexicon.choose_verb(rng, "social").present(plural)
    return f"{verb} {rng.choice(lexicon.names).singular}"


def agreement_across_phrase(rng: Random, lexicon: Lexicon) -> MinimalPair:
    """The verb agrees with the head, not with the noun next to it."""
    head, other = two_people(rng, lexicon)
    preposition = rng.choice(PREPOSITIONS)
    predicate = present_predicate(rng, lexicon, head.plural)
    good, bad = (
        f"{a.say()} {preposition} {b.say()} {predicate}" for a, b in ((head, other), (other, head))
    )
    return sentence(good), sentence(bad)


def agreement_across_clause(rng: Random, lexicon: Lexicon) -> MinimalPair:
    """The verb agrees with the head across a relative clause about the object."""
    head, other = two_people(rng, lexicon)
    inner = lexicon.choose_verb(rng, "social", needs_object=True)
    outer = lexicon.choose_verb(rng, "intransitive")
    start = f"{head.say()} that {other.say()}"
    good = f"{start} {inner.present(other.plural)} {outer.present(head.plural)}"
    bad = f"{start} {inner.present(head.plural)} {outer.present(other.plural)}"
    return sentence(good), sentence(bad)


def reflexive_number(rng: Random, lexicon: Lexicon) -> MinimalPair:
    """`themselves` takes the plural subject of its own clause."""
    one, many = sorted(two_people(rng, lexicon), key=lambda person: person.plural)
    verb = lexicon.choose_verb(rng, "social").past
    where = rng.choice(lexicon.places)
    if rng.random() < 0.5:
        frame = "{} " + rng.choice(PREPOSITIONS) + " {} " + f"{verb} themselves {where}"
        good, bad = frame.format(many.say(), one.say()), frame.format(one.say(), many.say())
    else:
        frame = "{} said that {} " + f"{verb} themselves {where}"
        good, bad = frame.format(one.say(), many.say()), frame.format(many.say(), one.say())
    return sentence(good), sentence(bad)


def reflexive_gender(rng: Random, lexicon: Lexicon) -> MinimalPair:
    """`himself` and `herself` take the subject of their own clause."""
    gender, pronoun = rng.choice((("female", "herself"), ("male", "himself")))
    binder = rng.choice([n for n in lexicon.names if n.gender == gender]).singular
    other = rng.choice([n for n in lexicon.names if n.gender != gender]).singular
    verb = lexicon.choose_verb(rng, "social").past
    frame = "{} " + rng.choice(("said", "thinks", "knows", "denied")) + " that {} "
    frame += f"{verb} {pronoun} {rng.choice(lexicon.places)}"
    return sentence(frame.format(other, binder)), sentence(frame.format(binder, other))


def determiner_number(rng: Random, lexicon: Lexicon) -> MinimalPair:
    """`this` and `that` take a singular, `these` and `those` a plural."""
    first, second = two_people(rng, lexicon)
    determiners = {False: rng.choice(("this", "that")), True: rng.choice(("these", "those"))}
    verb = lexicon.choose_verb(rng, "social").past
    place = rng.choice(lexicon.places)
    right = (determiners[first.plural], determiners[second.plural])
    good, bad = (
        f"{a} {first.noun.form(first.plural)} {verb} {b} {second.noun.form(second.plural)} {place}"
        for a, b in (right, right[::-1])
    )
    return sentence(good), sentence(bad)


def subcategorisation(rng: Random, lexicon: Lexicon) -> MinimalPair:
    """A transitive verb has an object, an intransitive one has none."""
    bare = lexicon.choose_verb(rng, "intransitive").past
    taking = lexicon.choose_verb(rng, "handling", needs_object=True).past
    first, second = choose_people(rng, lexicon)
    thing = NounPhrase(rng.choice(lexicon.things))
    link = rng.choice(("and", "while", "because", "but", "before"))
    frame = f"{first.say()} {{}} {link} {second.say()} {{}} {thing.say()}"
    return sentence(frame.format(bare, taking)), sentence(frame.format(taking, bare))


def word_order(rng: Random, lexicon: Lexicon) -> MinimalPair:
    """Two neighbouring words have changed places."""
    person = rng.choice(lexicon.people).form(rng.random() < 0.5)
    thing = rng.choice(lexicon.things).form(rng.random() < 0.5)
    verb = lexicon.choose_verb(rng, "handling").past
    adjective = rng.choice(lexicon.thing_adjectives).word
    place = rng.choice(lexicon.places).split()
    good = ["the", person, rng.choice(ADVERBS), verb, "the", adjective, thing, *place]
    bad = list(good)
    left = rng.choice((0, 3, 4, 5, 7, 8))
    bad[left], bad[left + 1] = bad[left + 1], bad[left]
    return sentence(" ".join(good)), sentence(" ".join(bad))


def question_gap(rng: Random, lexicon: Lexicon) -> MinimalPair:
    """`What` needs a gap and a gap needs `what`."""
    first, second = choose_people(rng, lexicon)
    verb = lexicon.choose_verb(rng, "handling", needs_object=True).past
    thing = NounPhrase(rng.choice(lexicon.things)).say()
    report = rng.choice(("say", "think", "know", "claim", "believe"))
    core = f"did {first.say()} {report} that {second.say()} {verb}"
    good, bad = rng.choice(
        (
            (f"what {core}", f"what {core} {thing}"),
            (f"{core} {thing}", core),
        )
    )
    return sentence(good, "?"), sentence(bad, "?")


def adjunct_island(rng: Random, lexicon: Lexicon) -> MinimalPair:
    """The gap is in the main clause, never inside an adjunct."""
    first, second = choose_people(rng, lexicon)
    bare = lexicon.choose_verb(rng, "intransitive")
    taking = lexicon.choose_verb(rng, "handling", needs_object=True)
    link = rng.choice(("before", "after", "because", "when", "while"))
    frame = f"what did {first.say()} {{}} {link} {second.say()} {{}}"
    good, bad = frame.format(taking.base, bare.past), frame.format(bare.base, taking.past)
    return sentence(good, "?"), sentence(bad, "?")


def verb_form(rng: Random, lexicon: Lexicon) -> MinimalPair:
    """`has` takes a participle, a modal takes the base form."""
    first, second = choose_people(rng, lexicon)
    verbs = [lexicon.choose_verb(rng, "social", "handling", needs_object=True) for _ in range(2)]
    objects = [
        NounPhrase(rng.choice(lexicon.people if verb.frame == "social" else lexicon.things)).say()
        for verb in verbs
    ]
    modal = rng.choice(("will", "must", "can", "should"))
    link = rng.choice(("and", "but", "because"))
    good, bad = (
        f"{first.say()} {a} {verbs[0].participle} {objects[0]} {link} "
        f"{second.say()} {b} {verbs[1].base} {objects[1]}"
        for a, b in (("has", modal), (modal, "has"))
    )
    return sentence(good), sentence(bad)


def negative_polarity(rng: Random, lexicon: Lexicon) -> MinimalPair:
    """`ever` needs a negative subject above it; one inside a relative clause will not do."""
    first, second = (noun.singular for noun in rng.sample(lexicon.people, 2))
    inner, outer = lexicon.choose_verb(rng, "social"), lexicon.choose_verb(rng, "intransitive")
    frame = "{} " + f"{first} who {inner.past}" + " {} " + f"{second} has ever {outer.participle}"
    return sentence(frame.format("no", "the")), sentence(frame.format("the", "no"))


PHENOMENA: dict[str, Callable[[Random, Lexicon], MinimalPair]] = {
    "agreement_across_phrase": agreement_across_phrase,
    "agreement_across_clause": agreement_across_clause,
    "reflexive_number": reflexive_number,
    "reflexive_gender": reflexive_gender,
    "determiner_number": determiner_number,
    "subcategorisation": subcategorisation,
    "word_order": word_order,
    "question_gap": question_gap,
    "adjunct_island": adjunct_island,
    "verb_form": verb_form,
    "negative_polarity": negative_polarity,
}


def draw(rng: Random, lexicon: Lexicon, phenomenon: str) -> list[Example]:
    """A good sentence (`1`) and its bad twin (`0`)."""
    good, bad = PHENOMENA[phenomenon](rng, lexicon)
    return [Example(phenomenon, (good,), "1"), Example(phenomenon, (bad,), "0")]
