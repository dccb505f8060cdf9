"""Count the pieces into which a tokenizer splits the words of a corpus: many, if it was made for another language."""

import json
import re
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass

import numpy as np
from tokenizers import Tokenizer

from sentemb.corpus.corpus import Corpus
from sentemb.storage import key_of, write_text

SENTENCES = 2_000  # that are read
PIECES = 3  # a word that the vocabulary lacks is split into this number or more
SHARE = 1 / 3  # of the words so split; more is noted
FEWEST = 50  # words from which a share says something

# four letters or more: articles and prepositions are whole in most vocabularies. Not of scripts that put no space
# between words: of those each character may be a token
_WORD = re.compile(r"[^\W\d_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]{4,}")
_SPACE_MARKS = " Ġ▁"  # a token of these alone is the space before a word


@dataclass(frozen=True)
class WordPieces:
    """How many of a sample of a corpus' words, of four letters or more, a tokenizer splits into PIECES or more."""

    words: int
    split: int
    examples: tuple[str, ...]  # the most frequent of those that are split

    @property
    def note(self) -> str:
        """A warning; "" if most words are whole or in two pieces."""
        if self.words < FEWEST or self.split <= SHARE * self.words:
            return ""
        return (
            f"the tokenizer splits {self.split / self.words:.0%} of the words of four letters or more into {PIECES} "
            f"pieces or more ({', '.join(self.examples)}): its vocabulary is for another language or small; choose "
            "an encoder or word embeddings of this language, or rnn:embeddings=random, which learns a vocabulary here"
        )


def word_pieces(corpus: Corpus, tokenizer: Tokenizer, seed: int = 0) -> WordPieces:
    """Split the words of at most SENTENCES sentences, drawn by ``seed`` without replacement.

    The result is stored next to the corpus: many runs train on one corpus with one tokenizer.
    """
    limits = f"{SENTENCES} {PIECES} {seed} {_WORD.pattern}"
    file = corpus.folder / f"word-pieces-{key_of(limits, corpus.fingerprint, tokenizer.to_str())}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads(file.read_text(encoding="utf-8"))
        return WordPieces(int(content["words"]), int(content["split"]), tuple(map(str, content["examples"])))
    counted = _counted(corpus, tokenizer, seed)
    with suppress(OSError):  # (it costs a tenth of a second)
        write_text(file, json.dumps(asdict(counted)), sync=False)
    return counted


def _counted(corpus: Corpus, tokenizer: Tokenizer, seed: int) -> WordPieces:
    count = min(SENTENCES, len(corpus))
    rows = np.sort(np.random.default_rng(seed).choice(len(corpus), count, replace=False))
    words = Counter(word for sentence in corpus.sentences(rows) for word in _WORD.findall(sentence))
    distinct = list(words)
    # (after a space: to byte-level tokenizers that is how a word looks within a sentence)
    encodings = tokenizer.encode_batch([f" {word}" for word in distinct], add_special_tokens=False)
    pieces = {
        word: sum(bool(token.strip(_SPACE_MARKS)) for token in encoding.tokens)
        for word, encoding in zip(distinct, encodings, strict=True)
    }
    split = Counter({word: n for word, n in words.items() if pieces[word] >= PIECES})
    examples = sorted(split, key=lambda word: (-split[word], word))[:3]
    return WordPieces(words.total(), split.total(), tuple(examples))
