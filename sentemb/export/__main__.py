"""``python -m sentemb.export CHECKPOINT OUT`` writes an encoder in another format."""

from sentemb.export.command import main

main()
