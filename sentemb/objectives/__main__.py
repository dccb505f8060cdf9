"""Prints docs/objectives.md: ``python -m sentemb.objectives > docs/objectives.md``."""

from sentemb.objectives.reference_page import page

print(page(), end="")
