"""``python -m eval.package_docs``: a collection from the documentation of installed packages."""

from eval.package_docs.command import main

main()
