"""``python -m fastconv``: the command line."""

import sys

from fastconv.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
