"""Train a sentence encoder on neighbouring sentences of books, score it, and write a page to look at.

    accelerate launch recipes/train_bookcorpus.py                                    # the built-in sample, minutes
    accelerate launch recipes/train_bookcorpus.py --corpus BOOKS --out runs/first \\
        --encoder rnn:hidden=256 --objective infonce:temperature=0.05                # a folder of raw books
    accelerate launch recipes/train_bookcorpus.py --corpus BOOKS --init minilm \\
        --lr 2e-5 --batch-size 128                                                   # adapt a finished model
    torchrun --nproc_per_node 2 recipes/train_bookcorpus.py                          # two processes, global negatives

Writes OUT/config.json before step 1, OUT/log.jsonl from step 0, OUT/best and OUT/last (models) with the dev scores,
OUT/checkpoints/ with --save-every, then OUT/model (a SentenceTransformer), OUT/scores.json and OUT/report.html. A run
is never overwritten.
"""

from collections.abc import Sequence

from recipes.runner import command


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command("train_bookcorpus", __doc__, {}, arguments)


if __name__ == "__main__":
    main()
