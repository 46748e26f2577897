"""Three-way inference; a phenomenon draws a premise and a hypothesis, logic finds the label."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import get_args

from mtdnn_tf.demo_data.example import Example
from mtdnn_tf.demo_data.grammar import Clause, NounPhrase, choose_detail, choose_people, sentence
from mtdnn_tf.demo_data.lexicon import Adjective, Lexicon, Noun
from mtdnn_tf.demo_data.logic import RELATIONS, Quantifier, Relation, judge, judge_quantified

Inference = tuple[str, str, str]


def specific_phrase(
    rng: Random, nouns: tuple[Noun, ...], adjectives: tuple[Adjective, ...]
) -> NounPhrase:
    """An indefinite noun phrase that can be widened."""
    noun = rng.choice([noun for noun in nouns if noun.hypernym])
    return NounPhrase(noun, "a", choose_detail(rng, adjectives, 0.5))


def widen_phrase(rng: Random, phrase: NounPhrase) -> NounPhrase:
    """The phrase without its adjective or with its hypernym: what it names includes the former."""
    if phrase.adjective is not None and rng.random() < 0.5:
        return replace(phrase, adjective=None)
    assert phrase.noun.hypernym is not None
    return replace(phrase, noun=phrase.noun.hypernym)


def specific_clause(rng: Random, lexicon: Lexicon) -> Clause:
    """A clause about an indefinite person whose every part can be widened."""
    subject = specific_phrase(rng, lexicon.people, lexicon.person_adjectives)
    place = rng.choice(lexicon.places)
    verb = lexicon.choose_verb(rng, "handling", "intransitive")
    if verb.frame == "intransitive":
        return Clause(subject, verb, place=place)
    return Clause(
        subject, verb, specific_phrase(rng, lexicon.things, lexicon.thing_adjectives), place
    )


def widen_predicate(rng: Random, clause: Clause) -> Clause:
    """The clause without its place or with a wider object."""
    if clause.object is None or rng.random() < 0.5:
        return replace(clause, place="")
    return replace(clause, object=widen_phrase(rng, clause.object))


def related_predicates(
    rng: Random, lexicon: Lexicon, clause: Clause
) -> tuple[Clause, Clause, Relation]:
    """Two clauses with the subject of `clause`, and how their predicates lie to each other."""
    relation: Relation = rng.choice(get_args(Relation))
    match relation:
        case "equal":
            return clause, clause, relation
        case "narrower":
            return clause, widen_predicate(rng, clause), relation
        case "wider":
            return widen_predicate(rng, clause), clause, relation
        case "apart":
            other = lexicon.choose_verb(rng, clause.verb.frame)
            if other == clause.verb:
                return clause, clause, "equal"
            return clause, replace(clause, verb=other), relation


def quantifiers(rng: Random, lexicon: Lexicon) -> Inference:
    """`Every`, `a`, `no` and `not every`, with wider and narrower nouns and predicates."""
    one, two, predicates = related_predicates(rng, lexicon, specific_clause(rng, lexicon))
    restrictors: Relation = rng.choice(("equal", "narrower", "wider"))
    if restrictors == "narrower":
        two = replace(two, subject=widen_phrase(rng, one.subject))
    elif restrictors == "wider":
        one = replace(one, subject=widen_phrase(rng, two.subject))
    first, second = (rng.choice(get_args(Quantifier)) for _ in range(2))
    premise, hypothesis = (
        replace(clause, subject=replace(clause.subject, determiner=quantifier)).active(rng)
        for clause, quantifier in ((one, first), (two, second))
    )
    return premise, hypothesis, judge_quantified(first, second, restrictors, predicates)


def details(rng: Random, lexicon: Lexicon) -> Inference:
    """What a named person did or did not do, in more or less detail."""
    name = NounPhrase(rng.choice(lexicon.names))
    one, two, relation = related_predicates(
        rng, lexicon, replace(specific_clause(rng, lexicon), subject=name)
    )
    one, two = (replace(clause, negated=rng.random() < 0.5) for clause in (one, two))
    label = judge(
        RELATIONS[relation],
        lambda did: did[0] != one.negated,
        lambda did: did[1] != two.negated,
    )
    return say_event(rng, one), say_event(rng, two), label


def say_event(rng: Random, clause: Clause) -> str:
    """The clause in either voice.

    A negated one stays active where its object is indefinite: `a car was not sold by Tom` can mean
    something else than `Tom did not sell a car`.
    """
    fixed = clause.object is not None and not (clause.negated and clause.object.determiner == "a")
    return clause.passive(rng) if fixed and rng.random() < 0.5 else clause.active(rng)


def roles(rng: Random, lexicon: Lexicon) -> Inference:
    """Who did it to whom, in both voices: the other way round nothing follows."""
    first, second = choose_people(rng, lexicon)
    verb = lexicon.choose_verb(rng, "social")
    one = Clause(first, verb, second, negated=rng.random() < 0.3)
    two = replace(one, negated=rng.random() < 0.5)
    turned = rng.random() < 0.4
    if turned:
        two = replace(two, subject=second, object=first)
    label = judge(
        itertools.product((False, True), repeat=2),
        lambda did: did[0] != one.negated,
        lambda did: did[turned] != two.negated,
    )
    return say_event(rng, one), say_event(rng, two), label


def comparisons(rng: Random, lexicon: Lexicon) -> Inference:
    """Who is older than whom, who is younger: a scale on which several people stand."""
    scale = rng.choice(lexicon.comparatives)
    people = rng.sample([name.singular for name in lexicon.names], 3)
    a, b, c = 0, 1, 2
    more = rng.random() < 0.5
    sign = 1 if more else -1
    word = scale[0] if more else scale[1]
    shape, facts = rng.choice(
        (
            ("{a} is {w} than {b}, and {b} is {w} than {c}", ((a, b), (b, c))),
            ("{a} and {b} are {w} than {c}", ((a, c), (b, c))),
            ("{a} is {w} than {b} and {c}", ((a, b), (a, c))),
        )
    )
    premise = shape.format(a=people[a], b=people[b], c=people[c], w=word)
    left, right = rng.sample((a, b, c), 2)
    claims_more = rng.random() < 0.5
    negated = rng.random() < 0.3
    claim = f"is {'not ' * negated}{scale[0] if claims_more else scale[1]} than"
    label = judge(
        itertools.product(range(3), repeat=3),
        lambda ranks: all(sign * (ranks[x] - ranks[y]) > 0 for x, y in facts),
        lambda ranks: ((1 if claims_more else -1) * (ranks[left] - ranks[right]) > 0) != negated,
    )
    return premise, f"{people[left]} {claim} {people[right]}", label


# What two people did: how it is said, and whether it is true of (first did, second did).
JOINT_REPORTS: tuple[tuple[str, Callable[[bool, bool], bool]], ...] = (
    ("{a} and {b} both {past}", lambda a, b: a and b),
    ("{a} or {b} {past}", lambda a, b: a or b),
    ("neither {a} nor {b} {past}", lambda a, b: not a and not b),
    ("{a} {past}, but {b} did not", lambda a, b: a and not b),
    ("{b} {past}, but {a} did not", lambda a, b: b and not a),
    ("either {a} or {b} {past}, but not both", lambda a, b: a != b),
)
SINGLE_REPORTS: tuple[tuple[str, Callable[[bool, bool], bool]], ...] = (
    ("{a} {past}", lambda a, b: a),
    ("{b} {past}", lambda a, b: b),
    ("{a} did not {base}", lambda a, b: not a),
    ("{b} did not {base}", lambda a, b: not b),
)


def connectives(rng: Random, lexicon: Lexicon) -> Inference:
    """`And`, `or`, `neither ... nor`, `but`."""
    clause = specific_clause(rng, lexicon)
    a, b = (name.singular for name in rng.sample(lexicon.names, 2))
    premise, when_premise = rng.choice(JOINT_REPORTS)
    hypothesis, when_hypothesis = rng.choice(SINGLE_REPORTS * 2 + JOINT_REPORTS)
    label = judge(
        itertools.product((False, True), repeat=2),
        lambda did: when_premise(*did),
        lambda did: when_hypothesis(*did),
    )
    one, two = (
        frame.format(a=a, b=b, past=clause.predicate(rng), base=clause.infinitive(rng))
        for frame in (premise, hypothesis)
    )
    return one, two, label


# Frames around an event, and what they say about it: 1 it took place, -1 it did not, 0 nothing.
REPORTS: dict[str, int] = {
    "{a} managed to {base}": 1,
    "{a} remembered to {base}": 1,
    "{a} did not forget to {base}": 1,
    "{c} knows that {a} {past}": 1,
    "{c} does not know that {a} {past}": 1,
    "{c} was surprised that {a} {past}": 1,
    "{a} failed to {base}": -1,
    "{a} refused to {base}": -1,
    "{a} forgot to {base}": -1,
    "{a} did not manage to {base}": -1,
    "{c} knows that {a} did not {base}": -1,
    "{c} pretended that {a} {past}": -1,
    "{a} wanted to {base}": 0,
    "{a} promised to {base}": 0,
    "{a} did not want to {base}": 0,
    "{c} hopes that {a} {past}": 0,
    "{c} thinks that {a} did not {base}": 0,
    "{c} said that {a} {past}": 0,
}


def reports(rng: Random, lexicon: Lexicon) -> Inference:
    """Implicative and factive verbs, and verbs from which nothing follows."""
    clause = specific_clause(rng, lexicon)
    a, c = (name.singular for name in rng.sample(lexicon.names, 2))
    premise, says = rng.choice(list(REPORTS.items()))
    negated = rng.random() < 0.5
    label = judge(
        (False, True),
        lambda happened: says == 0 or happened == (says > 0),
        lambda happened: happened != negated,
    )
    one, two = (
        frame.format(a=a, c=c, past=clause.predicate(rng), base=clause.infinitive(rng))
        for frame in (premise, "{a} did not {base}" if negated else "{a} {past}")
    )
    return one, two, label


PHENOMENA: dict[str, Callable[[Random, Lexicon], Inference]] = {
    "quantifiers": quantifiers,
    "details": details,
    "roles": roles,
    "comparisons": comparisons,
    "connectives": connectives,
    "reports": reports,
}


def draw(rng: Random, lexicon: Lexicon, phenomenon: str) -> list[Example]:
    """A labelled pair whose sentences differ."""
    while True:
        premise, hypothesis, label = PHENOMENA[phenomenon](rng, lexicon)
        if premise != hypothesis:
            return [Example(phenomenon, (sentence(premise), sentence(hypothesis)), label)]
