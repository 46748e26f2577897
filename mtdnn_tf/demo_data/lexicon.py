"""Lexical entries with features: number, kind, frame, hypernym, synonym, opposite, polarity."""

import functools
from dataclasses import dataclass
from random import Random
from typing import Literal

from mtdnn_tf.demo_data import words

Domain = Literal["town", "country"]
NounKind = Literal["person", "thing"]
VerbFrame = Literal["social", "handling", "intransitive"]


@dataclass(frozen=True)
class Noun:
    """A count noun or a name.

    Attributes:
        singular: The singular form.
        plural: The plural form; a name has none.
        kind: What it names: a person or a thing.
        hypernym: The noun of the wider class; none at the top and for names.
        synonym: A noun of the same meaning, if there is one.
        gender: Of a name, `female` or `male`; else empty.
    """

    singular: str
    plural: str
    kind: NounKind
    hypernym: "Noun | None" = None
    synonym: "Noun | None" = None
    gender: str = ""

    def form(self, plural: bool) -> str:
        """The noun in that number."""
        return self.plural if plural else self.singular


@dataclass(frozen=True)
class Verb:
    """A verb.

    Attributes:
        base: The infinitive, which is also the present with a plural subject.
        third: The present with a singular subject.
        past: The simple past.
        participle: The past participle.
        frame: `social` (person and person), `handling` (person and thing) or `intransitive`.
        object_optional: Whether a verb that takes an object also stands without one.
        synonym: A verb of the same meaning and frame, if there is one.
    """

    base: str
    third: str
    past: str
    participle: str
    frame: VerbFrame
    object_optional: bool = False
    synonym: "Verb | None" = None

    def present(self, plural: bool) -> str:
        """The present form that agrees with a subject of that number."""
        return self.base if plural else self.third


@dataclass(frozen=True)
class Adjective:
    """An adjective.

    Attributes:
        word: The adjective.
        synonym: An adjective of the same meaning, or empty.
        polarity: 1 praises, -1 condemns, 0 does neither.
    """

    word: str
    synonym: str = ""
    polarity: int = 0


@dataclass(frozen=True)
class Lexicon:
    """The entries of one domain; `comparatives` are the two ways along a scale."""

    domain: Domain
    people: tuple[Noun, ...]
    things: tuple[Noun, ...]
    names: tuple[Noun, ...]
    places: tuple[str, ...]
    verbs: tuple[Verb, ...]
    person_adjectives: tuple[Adjective, ...]
    thing_adjectives: tuple[Adjective, ...]
    comparatives: tuple[tuple[str, str], ...]
    evaluations: tuple[Adjective, ...]
    aspects: tuple[str, ...]

    def choose_verb(self, rng: Random, *frames: VerbFrame, needs_object: bool = False) -> Verb:
        """A verb of one of the frames.

        Args:
            rng: The source of chance.
            frames: The frames to choose from.
            needs_object: Only verbs that never stand without an object.
        """
        fitting = [v for v in self.verbs if v.frame in frames]
        return rng.choice([v for v in fitting if not (needs_object and v.object_optional)])

    def choose_evaluation(self, rng: Random, polarity: int) -> str:
        """An adjective of that polarity."""
        return rng.choice([a.word for a in self.evaluations if a.polarity == polarity])


def ends_like_box(word: str) -> bool:
    """Whether `-s` becomes `-es` after the word."""
    return word.endswith(("s", "x", "z", "ch", "sh"))


def add_s(word: str) -> str:
    """The regular plural of a noun and the regular third person of a verb."""
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if ends_like_box(word) else "s")


def add_ed(verb: str) -> str:
    """The regular past of a verb that doubles no consonant."""
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ied"
    return verb + ("d" if verb.endswith("e") else "ed")


def split_synonym(entry: str) -> tuple[str, str]:
    """`car=automobile` as two; the second is empty where there is no synonym."""
    word, _, synonym = entry.partition("=")
    return word, synonym


def read_noun(entry: str, kind: NounKind, hypernym: Noun | None = None) -> Noun:
    """A noun from `singular[/plural][=synonym]`."""
    word, synonym = split_synonym(entry)
    singular, _, plural = word.partition("/")
    other = read_noun(synonym, kind, hypernym) if synonym else None
    return Noun(singular, plural or add_s(singular), kind, hypernym, other)


def read_nouns(table: str, kind: NounKind) -> tuple[Noun, ...]:
    """The nouns of a table, each below the hypernym that opened its group."""
    nouns, hypernym = [], None
    for entry in table.split():
        if entry.endswith(":"):
            hypernym = read_noun(entry[:-1], kind)
        else:
            nouns.append(read_noun(entry, kind, hypernym))
    return tuple(nouns)


def read_names(text: str, gender: str) -> list[Noun]:
    """Names of people."""
    return [Noun(name, "", "person", gender=gender) for name in text.split()]


def read_verb(entry: str, frame: VerbFrame) -> Verb:
    """A verb from `base[/past[/participle]][=synonym]`."""
    word, synonym = split_synonym(entry)
    base, *irregular = word.split("/")
    past = irregular[0] if irregular else add_ed(base)
    return Verb(
        base,
        add_s(base),
        past,
        irregular[-1] if irregular else past,
        frame,
        base in words.OBJECT_OPTIONAL.split(),
        read_verb(synonym, frame) if synonym else None,
    )


def read_adjectives(text: str, polarity: int = 0) -> tuple[Adjective, ...]:
    """Adjectives from `word[=synonym]`."""
    return tuple(Adjective(*split_synonym(e), polarity=polarity) for e in text.split())


def read_opposites(text: str) -> tuple[tuple[str, str], ...]:
    """Pairs from `word/opposite`."""
    pairs = (entry.replace("_", " ").split("/") for entry in text.split())
    return tuple((word, opposite) for word, opposite in pairs)


@functools.cache
def lexicon(domain: Domain) -> Lexicon:
    """The lexicon of a domain."""
    frames: list[tuple[dict[str, str], VerbFrame]] = [
        (words.SOCIAL_VERBS, "social"),
        (words.HANDLING_VERBS, "handling"),
        (words.INTRANSITIVE_VERBS, "intransitive"),
    ]
    return Lexicon(
        domain=domain,
        people=read_nouns(words.PERSON_NOUNS[domain], "person"),
        things=read_nouns(words.THING_NOUNS[domain], "thing"),
        names=tuple(
            read_names(words.FEMALE_NAMES[domain], "female")
            + read_names(words.MALE_NAMES[domain], "male")
        ),
        places=tuple(place.replace("_", " ") for place in words.PLACES[domain].split()),
        verbs=tuple(read_verb(e, frame) for table, frame in frames for e in table[domain].split()),
        person_adjectives=read_adjectives(words.PERSON_ADJECTIVES[domain]),
        thing_adjectives=read_adjectives(words.THING_ADJECTIVES[domain]),
        comparatives=read_opposites(words.COMPARATIVES[domain]),
        evaluations=read_adjectives(words.POSITIVE_ADJECTIVES[domain], 1)
        + read_adjectives(words.NEGATIVE_ADJECTIVES[domain], -1),
        aspects=tuple(words.ASPECTS[domain].split()),
    )
