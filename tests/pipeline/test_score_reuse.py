"""The scores at a run's end reuse what the scores while it trained have encoded with the same weights."""

import sentemb
from sentemb.validation import CachedEncoder


def test_held_out_pairs_are_encoded_once_for_each_state_of_the_weights(tmp_path, monkeypatch):
    corpus = [[f"sentence {i} of document {j} is {i * j} long" for i in range(12)] for j in range(12)]
    encoded: list[int] = []
    original = CachedEncoder._encode

    def encode(self, texts):
        encoded.append(len(texts))
        return original(self, texts)

    monkeypatch.setattr(CachedEncoder, "_encode", encode)
    run = sentemb.train(
        corpus,
        encoder="rnn:embeddings=random,vocabulary=200,dim=8,hidden=8",
        max_steps=4,
        batch_size=8,
        eval_every=2,
        out=tmp_path / "run",
    )
    assert len(encoded) == 3  # at steps 0, 2 and 4
    scores = run.scores
    assert encoded[3:] == encoded[:1]  # averaged word embeddings alone
    log = run.log
    for encoder, step in ((scores.index[0], 0), ("trained", 4)):
        assert scores["uniformity"][encoder] == log["heldout_uniformity"][step]
        assert scores["retrieval_mrr"][encoder] == log["retrieval_mrr"][step]
