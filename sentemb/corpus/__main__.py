"""``python -m sentemb.corpus``: what is in a corpus."""

from sentemb.inspection.cli import main

main()
