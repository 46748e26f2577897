"""Similarity of two sentences, scored from their meanings, whatever their wording.

A sentence is a `Clause` said in some style: with synonyms, in the active or passive voice, with the
place first or last. The score compares the clauses role by role; a style costs nothing, so two
wordings of one clause score 5, and a change of roles with the very same words scores 3.
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from mtdnn_tf.demo_data.example import Example
from mtdnn_tf.demo_data.grammar import Clause, NounPhrase, choose_clause, sentence
from mtdnn_tf.demo_data.lexicon import Lexicon

HIGHEST = 5.0
# What a difference in a role costs.
NOUN_COST = 1.5
ADJECTIVE_COST = 0.5
VERB_COST = 2.0
PLACE_COST = 1.0
NEGATION_COST = 2.5
EXCHANGE_COST = 2.0


def noun_phrase_cost(one: NounPhrase, two: NounPhrase) -> float:
    """What tells two fillers of the same role apart."""
    cost = 0.0 if one.noun == two.noun else NOUN_COST
    return cost + (0.0 if one.adjective == two.adjective else ADJECTIVE_COST)


def filler_cost(one: Clause, two: Clause) -> float:
    """The cost of subject and object; filling the roles the other way round has a fixed price."""
    if one.object is None or two.object is None:
        raise ValueError("similarity is defined for clauses with an object")
    straight = noun_phrase_cost(one.subject, two.subject) + noun_phrase_cost(one.object, two.object)
    crossed = noun_phrase_cost(one.subject, two.object) + noun_phrase_cost(one.object, two.subject)
    return min(straight, crossed + EXCHANGE_COST)


def score(one: Clause, two: Clause) -> float:
    """Similarity of two meanings, from 0 (nothing in common) to 5 (the same)."""
    cost = filler_cost(one, two)
    cost += 0.0 if one.verb == two.verb else VERB_COST
    cost += 0.0 if one.place == two.place else PLACE_COST
    cost += 0.0 if one.negated == two.negated else NEGATION_COST
    return max(0.0, HIGHEST - cost)


def say(rng: Random, clause: Clause) -> str:
    """The clause in a style of its own."""
    first = clause.place if rng.random() < 0.3 else ""
    body = replace(clause, place="") if first else clause
    said = body.passive(rng) if rng.random() < 0.4 else body.active(rng)
    return sentence(f"{first}, {said}" if first else said)


def exchange(clause: Clause) -> Clause:
    """The clause with subject and object in each other's role."""
    if clause.object is None:
        raise ValueError("only a clause with an object has roles to exchange")
    return replace(clause, subject=clause.object, object=clause.subject)


def change_noun(rng: Random, lexicon: Lexicon, clause: Clause) -> Clause:
    """Another subject or, as often, another object of the same kind."""
    other = choose_clause(rng, lexicon)
    if rng.random() < 0.5:
        return replace(clause, subject=replace(clause.subject, noun=other.subject.noun))
    while other.verb.frame != clause.verb.frame:
        other = choose_clause(rng, lexicon)
    assert clause.object is not None
    assert other.object is not None
    return replace(clause, object=replace(clause.object, noun=other.object.noun))


def change_verb(rng: Random, lexicon: Lexicon, clause: Clause) -> Clause:
    """Another verb of the same frame."""
    return replace(clause, verb=lexicon.choose_verb(rng, clause.verb.frame))


def change_place(rng: Random, lexicon: Lexicon, clause: Clause) -> Clause:
    """Another place."""
    return replace(clause, place=rng.choice(lexicon.places))


def change_polarity(rng: Random, lexicon: Lexicon, clause: Clause) -> Clause:
    """The event did not happen."""
    return replace(clause, negated=not clause.negated)


def change_adjective(rng: Random, lexicon: Lexicon, clause: Clause) -> Clause:
    """The adjectives are left out."""
    assert clause.object is not None
    return replace(
        clause,
        subject=replace(clause.subject, adjective=None),
        object=replace(clause.object, adjective=None),
    )


CHANGES = (change_noun, change_noun, change_verb, change_place, change_polarity, change_adjective)


def social_clause(rng: Random, lexicon: Lexicon) -> Clause:
    """A clause whose roles can be exchanged."""
    while (clause := choose_clause(rng, lexicon)).verb.frame != "social":
        pass
    return clause


def same_meaning(rng: Random, lexicon: Lexicon) -> tuple[Clause, Clause]:
    """One meaning twice."""
    clause = choose_clause(rng, lexicon)
    return clause, clause


def exchanged_roles(rng: Random, lexicon: Lexicon) -> tuple[Clause, Clause]:
    """Who did it and whom it was done to have changed places; half of the time more differs."""
    clause = social_clause(rng, lexicon)
    other = exchange(clause)
    if rng.random() < 0.5:
        other = rng.choice((change_verb, change_place, change_polarity))(rng, lexicon, other)
    return clause, other


def kept_roles(rng: Random, lexicon: Lexicon) -> tuple[Clause, Clause]:
    """One meaning between two people, so that a pair of people alone tells nothing."""
    clause = social_clause(rng, lexicon)
    return clause, clause


def one_change(rng: Random, lexicon: Lexicon) -> tuple[Clause, Clause]:
    """One difference."""
    clause = choose_clause(rng, lexicon)
    return clause, rng.choice(CHANGES)(rng, lexicon, clause)


def two_changes(rng: Random, lexicon: Lexicon) -> tuple[Clause, Clause]:
    """Two differences."""
    clause, other = one_change(rng, lexicon)
    return clause, rng.choice(CHANGES)(rng, lexicon, other)


def little_in_common(rng: Random, lexicon: Lexicon) -> tuple[Clause, Clause]:
    """Two clauses that were drawn apart, or whose people alone are the same."""
    if rng.random() < 0.5:
        return choose_clause(rng, lexicon), choose_clause(rng, lexicon)
    clause, event = social_clause(rng, lexicon), social_clause(rng, lexicon)
    other = replace(exchange(clause), verb=event.verb, place=event.place)
    return clause, other


PHENOMENA: dict[str, Callable[[Random, Lexicon], tuple[Clause, Clause]]] = {
    "same_meaning": same_meaning,
    "exchanged_roles": exchanged_roles,
    "kept_roles": kept_roles,
    "one_change": one_change,
    "two_changes": two_changes,
    "little_in_common": little_in_common,
}


def draw(rng: Random, lexicon: Lexicon, phenomenon: str) -> list[Example]:
    """A scored pair of sentences that are not worded alike."""
    while True:
        one, two = PHENOMENA[phenomenon](rng, lexicon)
        texts = (say(rng, one), say(rng, two))
        if texts[0] != texts[1]:
            return [Example(phenomenon, texts, f"{score(one, two):.3f}")]
