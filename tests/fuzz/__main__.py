"""``python -m tests.fuzz --seconds N --seed S``."""

from __future__ import annotations

import sys

from tests.fuzz.main import main

sys.exit(main())
