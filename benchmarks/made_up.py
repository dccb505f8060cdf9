"""Made-up text in documents, and encoders that are trained on it: what benchmarks need where nothing can be fetched."""

import argparse
import contextlib
import io
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.shapes import bert_tokenizer, minilm_shaped

LSTM, STATIC = "rnn:hidden=256,embeddings=random,dim=384", "static:embeddings=random,dim=384"
GRU = "rnn:cell=gru,hidden=256,embeddings=random,dim=384"


@dataclass(frozen=True)
class Text:
    """Sentences in documents, each document about words of its own, so that neighbours can be recognised."""

    sentences: list[str]
    ranges: np.ndarray  # int64 [documents, 2]

    @classmethod
    def of(cls, documents: int, sentences: int = 12, seed: int = 0) -> "Text":
        """Random text: ``documents`` documents, each with ``sentences`` sentences."""
        draw = random.Random(seed)
        sounds = [a + b for a in ("b", "d", "f", "gr", "k", "l", "m", "n", "p", "r", "s", "tr", "v") for b in "aeiou"]
        words = ["".join(draw.sample(sounds, 2 + n % 2)) for n in range(4000)]
        texts = []
        for _ in range(documents):
            topic = draw.sample(words, 12)
            for _ in range(sentences):
                sentence_words = [
                    draw.choice(topic if draw.random() < 0.5 else words) for _ in range(draw.randint(6, 24))
                ]
                texts.append(" ".join(sentence_words) + ".")
        starts = np.arange(documents, dtype=np.int64) * sentences
        return cls(texts, np.stack([starts, starts + sentences], axis=1))


def encoded(text: Text, tokenizer: Any, max_length: int) -> Any:
    """The sentences' tokens, in memory."""
    from sentemb.corpus import CHECKED, Tokens, WordwiseTokenizer

    tokenizer.enable_truncation(max_length)
    encoder = WordwiseTokenizer(tokenizer)
    encoder.check(text.sentences[:CHECKED])
    ids, counts = encoder.encode(text.sentences)
    return Tokens(ids, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]))


@dataclass
class Case:
    """An encoder, an objective and a precision, ready to be trained on made-up text."""

    spec: str
    precision: str
    options: argparse.Namespace
    text: Text
    objective: str = "infonce"
    seconds: float = math.nan

    def fit(self, run: Path, steps: int, resume: bool = False, **more: Any) -> Any:
        """The model, trained; ``more`` TrainingSettings."""
        from accelerate import Accelerator

        from benchmarks.train import SKIPPED, Clock, forget
        from sentemb.encoders import ENCODERS, tokenizer_of
        from sentemb.forward import TrainingEncoder
        from sentemb.objectives import OBJECTIVES
        from sentemb.pairs import drop_unusable_pairs, neighbours
        from sentemb.registry import build
        from sentemb.training import RunTarget, TrainingData, TrainingSettings, fit

        forget()
        torch.manual_seed(0)
        length, batch = self.options.max_length, self.options.batch_size
        model = build(ENCODERS, self.spec, "encoder", texts=lambda: self.text.sentences, max_length=length)
        tokens = encoded(self.text, tokenizer_of(model), length)
        pairs = drop_unusable_pairs(neighbours(self.text.ranges), tokens)
        accelerator = Accelerator(cpu=self.options.device == "cpu", mixed_precision=self.precision)
        lr = 1e-4 if self.spec.startswith("transformer") else 2e-3
        often = max(1, steps // 12)
        chosen = {"max_steps": steps, "batch_size": batch, "warmup": often, "log_every": often}
        chosen |= {"eval_every": 0, "save_every": 0}
        settings, data = TrainingSettings(lr=lr, **chosen | more), TrainingData(pairs, tokens)
        objective, target = build(OBJECTIVES, self.objective), RunTarget(run, resume)
        if self.options.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with Clock() as clock, contextlib.redirect_stderr(io.StringIO()):  # (the bar)
            fit(TrainingEncoder(model), objective, data, settings, accelerator, target)
        self.seconds = clock.seconds / max(1, clock.steps - SKIPPED)
        return model

    def embeddings(self, model: Any, sentences: list[str]) -> np.ndarray:
        """``[n, d]`` float32 of the training forward, without dropout, on the CPU."""
        from sentemb.encoders import tokenizer_of
        from sentemb.forward import TrainingEncoder, collate_tokens

        tokens = encoded(Text(sentences, np.empty((0, 2))), tokenizer_of(model), self.options.max_length)
        model.to("cpu").eval()
        with torch.no_grad():
            return TrainingEncoder(model)(collate_tokens(model, tokens.rows(np.arange(len(sentences))))).float().numpy()

    def rate(self) -> float:
        """Pairs a second of the last training."""
        return self.options.batch_size / self.seconds


def shaped(options: argparse.Namespace, folder: Path, text: Text) -> str:
    """The spec of a transformer of MiniLM's shape (of a small one on a CPU)."""
    if options.device != "cpu":
        return f"transformer:name={minilm_shaped(folder, text.sentences)}"
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(max_position_embeddings=64, **sizes)).save_pretrained(folder)
    bert_tokenizer(text.sentences).save_pretrained(folder)
    return f"transformer:name={folder}"


def made_from_text(spec: str, max_length: int, text: Text) -> Any:
    """The encoder, its vocabulary learned from the made-up text."""
    from sentemb.encoders import ENCODERS
    from sentemb.registry import build

    torch.manual_seed(0)
    return build(ENCODERS, spec, "encoder", texts=lambda: text.sentences, max_length=max_length)
