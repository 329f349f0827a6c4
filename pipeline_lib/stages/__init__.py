"""One script per stage: `run(settings, inputs, outputs)` and a thin command line."""
