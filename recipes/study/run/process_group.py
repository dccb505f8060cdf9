"""For the process that a study's encoders are forked off, which imports this first: a process group of its own.

A Ctrl-C or SIGTERM to the sweep's group then reaches the sweep alone, which passes it on to those that train, once.
"""

import os

if hasattr(os, "setpgrp"):
    os.setpgrp()
