"""Labels of inference by going through models: small states of the world."""

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

Model = TypeVar("Model")
Relation = Literal["equal", "narrower", "wider", "apart"]
Quantifier = Literal["every", "a", "no", "not every"]

# How two sets lie to each other: which (in the first, in the second) an individual can be.
RELATIONS: dict[Relation, tuple[tuple[bool, bool], ...]] = {
    "equal": ((False, False), (True, True)),
    "narrower": ((False, False), (False, True), (True, True)),
    "wider": ((False, False), (True, False), (True, True)),
    "apart": ((False, False), (False, True), (True, False), (True, True)),
}
# Two quantified sentences and two sets that are not empty ask for at most this many individuals.
MAX_WITNESSES = 4


def judge(
    models: Iterable[Model],
    premise: Callable[[Model], bool],
    hypothesis: Callable[[Model], bool],
) -> str:
    """The label of a pair: is the hypothesis true in all, none or some models of the premise?"""
    verdicts = {hypothesis(model) for model in models if premise(model)}
    if not verdicts:
        raise ValueError("the premise has no model")
    if len(verdicts) == 2:
        return "neutral"
    return "entailment" if True in verdicts else "contradiction"


def holds(quantifier: Quantifier, individuals: list[tuple[bool, bool]]) -> bool:
    """Whether `quantifier R P` is true of individuals that are (in R, in P)."""
    predicates = [in_predicate for in_restrictor, in_predicate in individuals if in_restrictor]
    match quantifier:
        case "every":
            return all(predicates)
        case "a":
            return any(predicates)
        case "no":
            return not any(predicates)
        case "not every":
            return not all(predicates)


@functools.cache
def judge_quantified(
    premise: Quantifier, hypothesis: Quantifier, restrictors: Relation, predicates: Relation
) -> str:
    """The label of `premise R1 P1` and `hypothesis R2 P2`.

    The relations say how R1 lies to R2 and P1 to P2. R1 and R2 are taken not to be empty, as
    speakers do.
    """
    kinds = [
        ((r1, p1), (r2, p2))
        for r1, r2 in RELATIONS[restrictors]
        for p1, p2 in RELATIONS[predicates]
    ]
    worlds = (
        world
        for size in range(1, MAX_WITNESSES + 1)
        for world in itertools.combinations(kinds, size)
        if any(one[0] for one, _ in world) and any(two[0] for _, two in world)
    )
    return judge(
        worlds,
        lambda world: holds(premise, [one for one, _ in world]),
        lambda world: holds(hypothesis, [two for _, two in world]),
    )
