"""The differential fuzzer: ``python -m tests.fuzz --seconds 60 --seed 1``.

Random problems on every algorithm of the table that accepts them, on arrays of any layout between inaccessible
pages, against an independent reference in float64, complex128 or int64. See `docs/reliability.md`.
"""

from __future__ import annotations

import sys
from pathlib import Path

# As `python -m tests.fuzz` from the checkout: pytest's own setting, `pythonpath`, for what the tests share.
sys.path.insert(0, str(Path(__file__).parent.parent))
