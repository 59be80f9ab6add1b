"""The progress bar: on a terminal, in a notebook, and nowhere else."""

from __future__ import annotations

import io
import sys
import types

import pytest

from fastconv.cli.progress import Progress, is_notebook


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(3) as progress:
        progress.tick("one: scipy")
        progress.say("a line")
        progress.tick("two")
    return stream.getvalue()


def test_a_terminal_shows_what_is_done_and_the_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(monkeypatch, Terminal())
    assert "one: scipy" in text
    assert " left" in text
    assert capsys.readouterr().out == "a line\n"


def test_a_file_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO()) == ""


@pytest.mark.filterwarnings("ignore:IProgress not found")
def test_a_notebook_shows_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert is_notebook()
    assert "one: scipy" in shown(monkeypatch, io.StringIO())
