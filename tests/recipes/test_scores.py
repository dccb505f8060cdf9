"""The scores at a recipe's end encode the sentences that their tables are of, and no others."""

import sentemb
from eval import read, stsb_dev_score
from recipes.runner import print_scores
from sentemb.validation import CachedEncoder
from tests.helpers import SMALL
from tests.senteval_tasks import TINY_STSB, write_lines

CORPUS = [[f"sentence {i} of document {j} is {i * j} long" for i in range(12)] for j in range(12)]


def test_a_run_encodes_stsb_dev_while_it_trains_and_stsb_test_at_its_end(folder, tmp_path, monkeypatch):
    for file in TINY_STSB.files:
        rows = [f"g\tf\ty\ti\t{i % 6}\ta {file.part} day {i}\ta {file.part} night {i}" for i in range(file.rows)]
        write_lines(folder / file.path, rows)
    data = read(TINY_STSB, folder)
    dev, test = (sorted({*data.parts[name].first, *data.parts[name].second}) for name in ("dev", "test"))
    encoded: list[str] = []
    original = CachedEncoder._encode

    def encode(self, texts):
        encoded.extend(texts)
        return original(self, texts)

    monkeypatch.setattr(CachedEncoder, "_encode", encode)
    run = sentemb.train(
        CORPUS, encoder=SMALL, max_steps=2, batch_size=8, dev=stsb_dev_score(folder), out=tmp_path / "run"
    )
    held_out = sorted({*run.pairs.first, *run.pairs.second})
    assert sorted(encoded) == sorted([*dev, *held_out] * 2)  # at steps 0 and 2
    encoded.clear()
    print_scores(run, [data])
    assert sorted(encoded) == sorted([*test * 3, *held_out])  # of held-out pairs the averaged embeddings alone
