"""Sentiment of remarks about films: words that praise and condemn under negation and contrast.

An *opinion* of a polarity is an adjective of that polarity or a negated one of the other; every
remark is made for a polarity, and its twin, made for the other, uses the same construction.
"""

from collections.abc import Callable
from random import Random

from mtdnn_tf.demo_data import words
from mtdnn_tf.demo_data.example import Example
from mtdnn_tf.demo_data.grammar import sentence
from mtdnn_tf.demo_data.lexicon import Lexicon

INTENSIFIERS = ("very", "really", "truly", "extremely", "quite", "so")
NEGATIONS = (
    "not {}", "not {} at all", "never {}", "hardly {}", "far from {}", "anything but {}",
    "by no means {}", "not even remotely {}",
)  # fmt: skip


def direct(rng: Random, lexicon: Lexicon, polarity: int) -> str:
    """An adjective of that polarity, perhaps intensified."""
    adjective = lexicon.choose_evaluation(rng, polarity)
    return f"{rng.choice(INTENSIFIERS)} {adjective}" if rng.random() < 0.3 else adjective


def negated(rng: Random, lexicon: Lexicon, polarity: int) -> str:
    """An adjective of the other polarity under a negation."""
    return rng.choice(NEGATIONS).format(lexicon.choose_evaluation(rng, -polarity))


def opinion(rng: Random, lexicon: Lexicon, polarity: int) -> str:
    """A predicate of that polarity, said directly or by a negation."""
    return (negated if rng.random() < 0.3 else direct)(rng, lexicon, polarity)


def plain(rng: Random, lexicon: Lexicon, polarity: int) -> str:
    """Two opinions that agree."""
    first, second = rng.sample(lexicon.aspects, 2)
    link = rng.choice((", and", ", just as", " and"))
    one, two = (direct(rng, lexicon, polarity) for _ in range(2))
    return f"the {first} is {one}{link} the {second} is {two}"


def emphatic(rng: Random, lexicon: Lexicon, polarity: int) -> str:
    """A judgement without any turn."""
    frame = rng.choice(
        (
            "for me the {0} was simply {1}",
            "the {0} could not be more {1}",
            "what struck me most was the {1} {0}",
            "the {1} {0} is what I remember",
        )
    )
    return frame.format(rng.choice(lexicon.aspects), lexicon.choose_evaluation(rng, polarity))


def enumeration(rng: Random, lexicon: Lexicon, polarity: int) -> str:
    """Three adjectives that agree."""
    fitting = [a.word for a in lexicon.evaluations if a.polarity == polarity]
    frame = rng.choice(("the {} is {}, {} and {}", "I found the {} {}, {} and {}"))
    return frame.format(rng.choice(lexicon.aspects), *rng.sample(fitting, 3))


def negation(rng: Random, lexicon: Lexicon, polarity: int) -> str:
    """One negated opinion."""
    frame = rng.choice(("the {} is {}", "to me the {} was {}", "this time the {} is {}"))
    return frame.format(rng.choice(lexicon.aspects), negated(rng, lexicon, polarity))


def expectation(rng: Random, lexicon: Lexicon, polarity: int) -> str:
    """What was expected, and what it was."""
    aspect = rng.choice(lexicon.aspects)
    before, after = direct(rng, lexicon, -polarity), opinion(rng, lexicon, polarity)
    frame = rng.choice(
        (
            "I expected the {} to be {}, but it was {}",
            "I was told the {} would be {}, but it turned out to be {}",
            "we thought the {} might be {}, yet it is {}",
            "the {} looked {} at first, but it is {}",
        )
    )
    return frame.format(aspect, before, after)


def concession(rng: Random, lexicon: Lexicon, polarity: int) -> str:
    """One thing is conceded, the film as a whole is judged by the main clause."""
    aspect = rng.choice(lexicon.aspects[2:])
    minor, major = opinion(rng, lexicon, -polarity), opinion(rng, lexicon, polarity)
    frame = rng.choice(
        (
            "although the {} is {minor}, as a whole it is {major}",
            "as a whole it is {major}, even though the {} is {minor}",
            "the {} is {minor}, but as a whole it is {major}",
            "it is {major} in the end, although the {} is {minor}",
        )
    )
    return frame.format(aspect, minor=minor, major=major)


def comparison(rng: Random, lexicon: Lexicon, polarity: int) -> str:
    """`More` of the one than of the other."""
    good, bad = (lexicon.choose_evaluation(rng, p) for p in (polarity, -polarity))
    frame = rng.choice(("more {0} than {1}", "less {1} than {0}", "{0} rather than {1}"))
    return f"the {rng.choice(lexicon.aspects)} is " + frame.format(good, bad)


def hearsay(rng: Random, lexicon: Lexicon, polarity: int) -> str:
    """Somebody else's opinion, which the speaker shares or rejects."""
    shared = rng.random() < 0.6
    theirs = lexicon.choose_evaluation(rng, polarity if shared else -polarity)
    speaker = rng.choice(("my friends", "the critics", "some people", "the reviews", "my parents"))
    verdict = rng.choice(
        ("and they are right", "and I agree", "and I think so too")
        if shared
        else ("but they are wrong", "but I disagree", "but I do not think so")
    )
    call = rng.choice(("call the {} {}", "say that the {} is {}", "find the {} {}"))
    return f"{speaker} {call.format(rng.choice(lexicon.aspects), theirs)}, {verdict}"


def attitude(rng: Random, lexicon: Lexicon, polarity: int) -> str:
    """Verbs of liking and disliking, under quantifiers and negation."""
    flipped = rng.random() < 0.5
    wanted = -polarity if flipped else polarity
    table = words.POSITIVE_ATTITUDES if wanted > 0 else words.NEGATIVE_ATTITUDES
    base, past = rng.choice(table.split()).split("/")
    frame = rng.choice(
        (
            f"nobody in the audience {past} the {{}}",
            f"I did not {base} the {{}} for a moment",
            f"there is nothing to {base} about the {{}}",
            f"none of us {past} the {{}}",
        )
        if flipped
        else (
            f"everybody in the audience {past} the {{}}",
            f"I did {base} the {{}} from the first moment",
            f"there is much to {base} about the {{}}",
            f"all of us {past} the {{}}",
        )
    )
    opening = rng.choice(("", "this time ", "once again ", "as usual ", "to be honest, "))
    return opening + frame.format(rng.choice(lexicon.aspects))


PHENOMENA: dict[str, Callable[[Random, Lexicon, int], str]] = {
    "plain": plain,
    "emphatic": emphatic,
    "enumeration": enumeration,
    "negation": negation,
    "expectation": expectation,
    "concession": concession,
    "comparison": comparison,
    "hearsay": hearsay,
    "attitude": attitude,
}


def draw(rng: Random, lexicon: Lexicon, phenomenon: str) -> list[Example]:
    """A positive (`1`) and a negative (`0`) remark."""
    make = PHENOMENA[phenomenon]
    return [
        Example(phenomenon, (sentence(make(rng, lexicon, polarity)),), label)
        for polarity, label in ((1, "1"), (-1, "0"))
    ]
