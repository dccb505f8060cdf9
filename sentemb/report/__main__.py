"""``python -m sentemb.report RUN`` writes the page of a run again."""

import sys

from sentemb.report.page import main

sys.exit(main())
