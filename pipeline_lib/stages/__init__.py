"""A folder per stage: settings.py says what it depends on, reads and writes; run.py has `run` and a command line.

`run(settings, inputs, outputs)`, or `run(settings, execution, inputs, outputs)` where a stage has settings of how it
runs.
"""
