"""Text that encoders of the guide are trained on, and text that they are scored on, have no sentence in common."""

import re

import pytest

from eval import choose_tasks, read
from sentemb.corpus import open_corpus

BLOCK = 50_000  # sentences that are compared together
INTERJECTION = 3  # words of a text, at most, that both may have by chance: "I love it", "terrible", "eh"


def words(text: str) -> tuple[str, ...]:
    """Its words in lower case, without punctuation."""
    return tuple(re.findall(r"[a-z0-9]+", text.lower()))


@pytest.mark.slow
def test_no_review_is_a_sentence_of_the_novels(real_data):
    tasks = [read(task, real_data / "senteval") for task in choose_tasks("MR,CR", real_data / "senteval")]
    reviews = {words(text) for task in tasks for part in task.parts.values() for text in part.first}
    assert len(reviews) > 14_000
    corpus = open_corpus(f"books:path={real_data / 'books'}")
    common = set()
    for start in range(0, len(corpus), BLOCK):
        common |= reviews & {words(text) for text in corpus.sentences(slice(start, start + BLOCK))}
    assert common and max(map(len, common)) <= INTERJECTION  # (some are: the comparison finds what there is)
