"""A folder per stage: settings.py says what it depends on, reads and writes; run.py has `run` and a command line.

`run(settings, inputs, outputs)`, or `run(settings, execution, inputs, outputs)` where a stage has settings of how it
runs.
"""

import gc
import sys

# A stage's imports make a million objects that stay until it ends. Looking for garbage among them takes a third of its
# start and end; `stage_command` begins to look for what comes later. While Python locates the module of `python -m`,
# that is the first argument.
if sys.argv[:1] == ["-m"]:
    gc.disable()
