"""Train a transformer on single sentences: each one twice, its dropout the only noise (unsupervised SimCSE).

    accelerate launch recipes/train_simcse.py --max-steps 100                        # MiniLM, the built-in sample
    accelerate launch recipes/train_simcse.py --corpus BOOKS --init minilm           # a finished model, your text
    accelerate launch recipes/train_simcse.py --corpus FILE --preset simcse-bert-base    # the paper's row
    accelerate launch recipes/train_simcse.py --corpus BOOKS --pairs augment:how=delete,rate=0

Writes OUT/config.json before step 1, OUT/log.jsonl from step 0 (with STS-B dev, and alignment and uniformity on it,
where its data is), OUT/best and OUT/last (models), then OUT/model, OUT/scores.json and OUT/report.html. A run is never
overwritten. Source: Gao et al. 2021, arXiv 2104.08821.
"""

from collections.abc import Sequence

from recipes.runner import command

DEFAULTS = {
    "encoder": "transformer:name=minilm,pooling=mean",
    "pairs": "dropout",
    "batch_size": 64,
    "lr": 3e-5,
    "warmup": 0,
    "max_length": 32,
    "eval_every": 125,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command("train_simcse", __doc__, DEFAULTS, arguments)


if __name__ == "__main__":
    main()
