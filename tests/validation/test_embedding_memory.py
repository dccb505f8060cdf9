"""A model that was scored is not encoded again under the same weights; others are forgotten."""

import numpy as np
import torch

from sentemb.validation import CachedEncoder, EmbeddingMemory, HeldOutPairs, held_out_geometry, sides_of

SPEC = "static:embeddings=random,vocabulary=300,dim=8"
TEXTS = ["a good day", "so be it", ""]


def test_equal_weights_are_encoded_once_and_changed_ones_again(encoder):
    model, same, memory = encoder(SPEC), encoder(SPEC), EmbeddingMemory()
    rows = CachedEncoder(model, cache=memory.of(model, "last"))(TEXTS)
    again = CachedEncoder(same, cache=memory.of(same))
    assert np.array_equal(again([*TEXTS, "a new one"])[:3], rows) and (again.encoded, again.reused) == (1, 3)
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    changed = CachedEncoder(model, cache=memory.of(model))
    assert not np.array_equal(changed(TEXTS), rows) and (changed.encoded, changed.reused) == (3, 0)


def test_models_without_a_role_are_forgotten(encoder):
    model, memory = encoder(SPEC), EmbeddingMemory()

    def encoded(role):
        encode = CachedEncoder(model, cache=memory.of(model, role))
        encode(TEXTS)
        return encode.encoded

    assert encoded("untrained") == 3
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    assert encoded("last") == 3 and encoded(None) == 0
    with torch.no_grad():
        next(model.parameters()).mul_(2)
    assert encoded("last") == 3
    with torch.no_grad():
        next(model.parameters()).div_(2)
    assert encoded(None) == 3  # its role went to another model
    with torch.no_grad():
        next(model.parameters()).div_(2)
    assert encoded(None) == 0  # it is the untrained one still


def test_two_prompts_are_two_encodings(encoder):
    model, memory = encoder(SPEC), EmbeddingMemory()
    model.prompts, model.default_prompt_name = {"anchor": "a day: ", "positive": "so: "}, "anchor"
    pairs = HeldOutPairs(["a good day", "so be it"], ["a bad day", "it is"], "two pairs")
    plain = held_out_geometry(sides_of(model, CachedEncoder(model)), pairs)
    assert plain["retrieval_sides"] != "one encoder"
    for _ in range(2):
        sides = sides_of(model, CachedEncoder(model, cache=memory.of(model, "last")))
        assert held_out_geometry(sides, pairs) == plain
    assert (sides.first.encoded, sides.first.reused, sides.second.reused) == (0, 2, 2)
