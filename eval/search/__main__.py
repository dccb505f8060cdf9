"""``python -m eval.search``: how well encoders find passages."""

from eval.search.command import main

main()
