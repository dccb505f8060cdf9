"""Texts made for the tests: each document has words of its own, so that its sentences are near each other."""

import random

NOUNS = [
    "cat",
    "dog",
    "king",
    "queen",
    "ship",
    "train",
    "doctor",
    "lawyer",
    "poet",
    "farmer",
    "child",
    "baker",
    "judge",
    "miller",
    "nurse",
    "sailor",
]
VERBS = ["sees", "finds", "likes", "leaves", "paints", "calls", "hears", "feeds", "meets", "hides", "helps", "thanks"]
PLACES = [
    "garden",
    "harbour",
    "castle",
    "market",
    "forest",
    "kitchen",
    "station",
    "church",
    "theatre",
    "island",
    "valley",
    "meadow",
]


def documents_of(documents: int, sentences: int, seed: int = 0) -> list[list[str]]:
    """Lists of sentences; those of a document use two nouns and two places of its own."""
    draw = random.Random(seed)
    made = []
    for number in range(documents):
        nouns, places = draw.sample(NOUNS, 2), draw.sample(PLACES, 2)
        made.append(
            [
                f"The {draw.choice(nouns)} {draw.choice(VERBS)} the {draw.choice(nouns)} in the {draw.choice(places)} "
                f"at {i} on day {number}."
                for i in range(sentences)
            ]
        )
    return made


def shuffled(documents: int, sentences: int, seed: int = 0) -> list[str]:
    """The same sentences in random order, as one document."""
    texts = [text for document in documents_of(documents, sentences, seed) for text in document]
    random.Random(seed).shuffle(texts)
    return texts
