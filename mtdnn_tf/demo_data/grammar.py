"""Noun phrases and clauses: what they mean (entries in roles) and how they are said (style)."""

from dataclasses import dataclass
from random import Random
from typing import TypeVar

from mtdnn_tf.demo_data.lexicon import Adjective, Lexicon, Noun, Verb

Entry = TypeVar("Entry", Noun, Verb)


@dataclass(frozen=True)
class NounPhrase:
    """A noun with what stands before it; a name stands alone.

    Attributes:
        noun: The head.
        determiner: `a` becomes `an` where the next word asks for it.
        adjective: Stands between determiner and noun.
        plural: The number of the phrase.
    """

    noun: Noun
    determiner: str = "the"
    adjective: Adjective | None = None
    plural: bool = False

    def say(self, rng: Random | None = None) -> str:
        """The phrase; with `rng`, each word may be replaced by its synonym."""
        if self.noun.gender:
            return self.noun.singular
        noun = with_synonym(self.noun, rng).form(self.plural)
        if self.adjective is None:
            return determined(self.determiner, noun)
        synonym = self.adjective.synonym
        adjective = synonym if synonym and heads(rng) else self.adjective.word
        return determined(self.determiner, f"{adjective} {noun}")


@dataclass(frozen=True)
class Clause:
    """One event in the past: who did what, to whom or what, where; a meaning without a wording."""

    subject: NounPhrase
    verb: Verb
    object: NounPhrase | None = None
    place: str = ""
    negated: bool = False

    def predicate(self, rng: Random | None = None) -> str:
        """What is said of the subject: verb, object and place."""
        if self.negated:
            return "did not " + self.infinitive(rng)
        return joined(with_synonym(self.verb, rng).past, self.object, self.place, rng)

    def infinitive(self, rng: Random | None = None) -> str:
        """The predicate as it stands after `to`."""
        return joined(with_synonym(self.verb, rng).base, self.object, self.place, rng)

    def active(self, rng: Random | None = None) -> str:
        """The clause in the active voice, without capital or full stop."""
        return f"{self.subject.say(rng)} {self.predicate(rng)}"

    def passive(self, rng: Random | None = None) -> str:
        """The clause in the passive voice; it must have an object."""
        if self.object is None:
            raise ValueError("a clause without an object has no passive")
        auxiliary = ("were" if self.object.plural else "was") + (" not" if self.negated else "")
        participle = with_synonym(self.verb, rng).participle
        said = f"{self.object.say(rng)} {auxiliary} {participle} by {self.subject.say(rng)}"
        return f"{said} {self.place}" if self.place else said


def joined(verb: str, object_: NounPhrase | None, place: str, rng: Random | None) -> str:
    """A verb form and what follows it."""
    parts = (verb, object_.say(rng) if object_ else "", place)
    return " ".join(part for part in parts if part)


def heads(rng: Random | None) -> bool:
    """The toss of a coin; without `rng` always tails."""
    return rng is not None and rng.random() < 0.5


def with_synonym(entry: Entry, rng: Random | None) -> Entry:
    """The entry or, half of the time where `rng` is given, its synonym."""
    return entry.synonym if entry.synonym is not None and heads(rng) else entry


def determined(determiner: str, words: str) -> str:
    """Determiner and words, with `an` before a vowel."""
    if determiner == "a" and words[0].lower() in "aeiou" and not words.startswith("use"):
        determiner = "an"
    return f"{determiner} {words}"


def sentence(text: str, end: str = ".") -> str:
    """The text with a capital and its end mark."""
    return text[0].upper() + text[1:] + end


def choose_people(rng: Random, lexicon: Lexicon) -> tuple[NounPhrase, NounPhrase]:
    """Two different people in the singular: names or definite noun phrases."""
    nouns, names = rng.sample(lexicon.people, 2), rng.sample(lexicon.names, 2)
    first, second = (
        NounPhrase(name if rng.random() < 0.3 else noun)
        for noun, name in zip(nouns, names, strict=True)
    )
    return first, second


def choose_clause(rng: Random, lexicon: Lexicon, *, detail: float = 0.5) -> Clause:
    """A clause with an object; each adjective is there with probability `detail`."""
    verb = lexicon.choose_verb(rng, "social", "handling")
    first, second = rng.sample(lexicon.people, 2)
    subject = NounPhrase(first, adjective=choose_detail(rng, lexicon.person_adjectives, detail))
    if rng.random() < 0.3:
        subject = NounPhrase(rng.choice(lexicon.names))
    if verb.frame == "social":
        target, adjectives = second, lexicon.person_adjectives
    else:
        target, adjectives = rng.choice(lexicon.things), lexicon.thing_adjectives
    object_ = NounPhrase(target, adjective=choose_detail(rng, adjectives, detail))
    return Clause(subject, verb, object_, rng.choice(lexicon.places))


def choose_detail(
    rng: Random, adjectives: tuple[Adjective, ...], probability: float
) -> Adjective | None:
    """An adjective with that probability, else none."""
    return rng.choice(adjectives) if rng.random() < probability else None
