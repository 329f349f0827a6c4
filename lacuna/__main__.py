"""`python -m lacuna` is the command `lacuna`."""

from __future__ import annotations

import sys

from pipeline_lib.commands.main import main

sys.exit(main())
