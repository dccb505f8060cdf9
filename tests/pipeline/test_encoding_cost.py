"""What an encoder costs: the speed of its encode by a clock that the test sets, and the size of its folder."""

import pytest
import torch

from sentemb.pipeline import encoding_cost
from sentemb.pipeline.encoding_cost import BATCH, FIRST, sentences_per_second
from sentemb.validation import HeldOutPairs

SENTENCES = [f"sentence {i}" for i in range(3000)]


class Timed:
    """A model whose encode takes so long a sentence, plus once something for the first call."""

    device = torch.device("cpu")

    def __init__(self, monkeypatch, seconds: float, start: float = 0.0) -> None:
        self.now, self.seconds, self.start, self.calls = 0.0, seconds, start, []
        monkeypatch.setattr(encoding_cost.time, "perf_counter", lambda: self.now)

    def encode(self, texts, batch_size, show_progress_bar):
        assert batch_size == BATCH and not show_progress_bar
        self.now += self.seconds * len(texts) + (0 if self.calls else self.start)
        self.calls.append(len(texts))


@pytest.mark.parametrize("rate", [3.0, 50.0, 1000.0, 500_000.0])
def test_the_speed_is_that_of_encode_after_a_warm_up(rate, monkeypatch):
    model = Timed(monkeypatch, 1 / rate, start=100.0)
    assert sentences_per_second(model, SENTENCES) == pytest.approx(rate)
    assert model.now - 100 < max(4.0, 4 * FIRST / rate)  # some seconds, or what the few first sentences take
    assert len(model.calls) >= 3 and max(model.calls) <= len(SENTENCES)


def test_a_slow_call_among_others_does_not_count(monkeypatch):
    model = Timed(monkeypatch, 1 / 1000)
    plain = model.encode

    def encode(texts, **options):
        plain(texts, **options)
        if len(model.calls) == 3:
            model.now += 0.5  # another process had the processor

    model.encode = encode
    assert sentences_per_second(model, SENTENCES, seconds=10) == pytest.approx(1000)


def test_all_encoders_encode_the_same_held_out_sentences(encoder, monkeypatch):
    met = []
    monkeypatch.setattr(encoding_cost, "sentences_per_second", lambda model, sentences: met.append(sentences) or 1.0)
    pairs = HeldOutPairs(SENTENCES[:-1], SENTENCES[1:], "made up")
    model = encoder("static:embeddings=random,dim=5,vocabulary=270")
    for _ in range(2):
        cost = encoding_cost.encoding_cost(model, pairs)
    assert met[0] == met[1] and len(set(met[0])) == 2000 and "at most 2,000" in cost["measured"]
    weights = sum(4 * value.numel() for value in model.state_dict().values())
    assert weights < 1e6 * cost["megabytes"] < weights + 100_000  # and the tokenizer
