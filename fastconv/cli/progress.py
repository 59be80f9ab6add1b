"""A progress bar with the time left, on a terminal or in a notebook. Needs tqdm; without it, or elsewhere, nothing is shown."""

from __future__ import annotations

import importlib
import sys
from types import TracebackType
from typing import Any

from fastconv.cli.console import complain, say
from fastconv.cli.pictures import INSTALL

_WORDS = 34


def is_notebook() -> bool:
    """Return whether this runs in the kernel of a notebook."""
    shell: Any = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"


class Progress:
    """A bar over `total` steps on standard error; lines written through it stand above it.

    Parameters
    ----------
    total : int
    """

    def __init__(self, total: int) -> None:
        self._bar: Any = None
        if not (sys.stderr.isatty() or is_notebook()):
            return
        try:
            # The second takes a widget where there are widgets.
            tqdm = importlib.import_module("tqdm.auto" if is_notebook() else "tqdm").tqdm
        except ImportError:
            complain(f"(No progress bar: tqdm is not installed. Install it with: {INSTALL})")
            return
        form = "{desc} {bar} {percentage:3.0f} %  {elapsed} gone, {remaining} left"
        self._bar = tqdm(total=total, bar_format=form, dynamic_ncols=True, smoothing=0.05, leave=False, file=sys.stderr)

    def tick(self, words: str) -> None:
        """Show what is being done now, and that one step more is done."""
        if self._bar is not None:
            self._bar.set_description_str(words[:_WORDS].ljust(_WORDS), refresh=False)
            self._bar.update(1)

    def begin(self, words: str) -> None:
        """Show what is being done now; no step is done by it."""
        if self._bar is not None:
            self._bar.set_description_str(words[:_WORDS].ljust(_WORDS))

    def say(self, text: str) -> None:
        """Write a line to standard output, above the bar."""
        if self._bar is None:
            say(text)
        else:
            self._bar.clear()
            say(text)
            sys.stdout.flush()
            self._bar.refresh()

    def __enter__(self) -> Progress:  # noqa: PYI034  Self is newer than Python 3.10
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
