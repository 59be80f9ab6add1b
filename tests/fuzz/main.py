"""The command line, the supervisor and the process that runs the cases.

The supervisor starts a worker process that notes each case in a shared file before it runs it. So a crash or a hang is
reported with its case too, and shrunk like a wrong result.
"""

# ruff: noqa: S311, T201  the randomness is for variety, and the findings are printed
from __future__ import annotations

import argparse
import json
import mmap
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import fastconv

from .case import Case
from .check import Checker, Mismatch
from .draw import group, templates
from .memory import TooLarge
from .shrink import shrunk

ROOT = Path(__file__).resolve().parents[2]
NOTE_NBYTES = 4096
#: A case that takes longer, the compilation of its kernels included, hangs.
HANG_S = 900.0
#: Runs that shrinking may take: in the process, and with a process for each; and its time.
TRIES, PROCESSES = 400, 60
SHRINKING_S = 120.0
#: A worker reports so many findings at most.
MOST_FINDINGS = 20


def main(arguments: list[str] | None = None) -> int:
    """Run the fuzzer; return 1 if anything was found."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--templates", type=int, default=0, help="shapes drawn, beside those of the tests, for code made per shape")
    parser.add_argument("--case", help="run one case, as printed with a finding")
    parser.add_argument("--log", type=Path, help="a file to which a line with the counts is added, as JSON")
    parser.add_argument("--notes", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.case:
        return _one(options.case)
    if options.notes:
        return _work(options)
    return _supervise(options)


def _one(text: str) -> int:
    fastconv.set_config(wisdom="off")
    try:
        Checker().run(Case.parse(text))
    except Mismatch as mismatch:
        print(mismatch)
        return 1
    print("as expected")
    return 0


def failure(checker: Checker, case: Case) -> str | None:
    """Return what is wrong with the case, None if nothing is."""
    try:
        checker.run(case)
    except Mismatch as mismatch:
        return str(mismatch)
    except TooLarge:
        return None
    except Exception as error:  # noqa: BLE001  no accepted case may raise anything
        return f"{type(error).__name__}: {error}"
    return None


def _work(options: argparse.Namespace) -> int:
    """Run cases until the time is over; write counts and findings beside the notes."""
    fastconv.set_config(wisdom="off")
    checker, runs = Checker(), Counter[str]()
    findings: list[dict[str, str]] = []
    palette = templates(options.templates)
    end, told = time.monotonic() + options.seconds, 0.0

    def tell() -> None:
        state = {"runs": dict(runs), "vacuous": dict(checker.vacuous), "findings": findings}
        options.notes.with_suffix(".json").write_text(json.dumps(state), encoding="utf-8")

    with options.notes.open("r+b") as file, mmap.mmap(file.fileno(), NOTE_NBYTES) as note:
        number = 0
        while time.monotonic() < end and len(findings) < MOST_FINDINGS:
            rng = random.Random(f"{options.seed}:{number}")
            number += 1
            for case in group(rng, palette):
                text = str(case).encode()
                note[: len(text) + 1] = text + b"\n"
                try:
                    wrong = failure(checker, case)
                except BaseException:
                    tell()
                    raise
                runs[case.algorithm] += 1
                if wrong:
                    findings.append(_found(checker, case, wrong))
                    print(report(findings[-1]), flush=True)
                if time.monotonic() > end:
                    break
            if time.monotonic() - told > 2:
                told = time.monotonic()
                tell()
    tell()
    return 0


def _found(checker: Checker, case: Case, wrong: str) -> dict[str, str]:
    end = time.monotonic() + SHRINKING_S
    small = shrunk(case, lambda candidate: time.monotonic() < end and bool(failure(checker, candidate)), TRIES)
    return {"case": str(small), "first": str(case), "wrong": failure(Checker(), small) or wrong}


def report(finding: dict[str, str]) -> str:
    """Return a finding in words, with the command that shows it again."""
    return (
        f"MISMATCH {finding['wrong']}\n  first: {finding['first']}\n  problem: {finding['case'].split()[0]}\n"
        f"  again: python -m tests.fuzz --case '{finding['case']}'"
    )


def _supervise(options: argparse.Namespace) -> int:
    runs: Counter[str] = Counter()
    findings: list[dict[str, str]] = []
    vacuous: Counter[str] = Counter()
    start, turn = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder) / "notes"
        while (left := options.seconds - (time.monotonic() - start)) > 0.5:
            notes.write_bytes(bytes(NOTE_NBYTES))
            state = notes.with_suffix(".json")
            state.unlink(missing_ok=True)
            words = ["--seconds", f"{left:.1f}", "--seed", str(options.seed + turn * 10**6), "--templates", str(options.templates)]
            ended = _watched([*words, "--notes", str(notes)], notes)
            told: dict[str, Any] = (
                json.loads(state.read_text(encoding="utf-8")) if state.exists() else {"runs": {}, "vacuous": {}, "findings": []}
            )
            runs.update(told["runs"])
            vacuous.update(told["vacuous"])
            findings += told["findings"]
            turn += 1
            if ended:
                last = notes.read_bytes().split(b"\n")[0].rstrip(b"\0").decode()
                findings.append(_crashed(last, ended))
                print(report(findings[-1]), flush=True)
            if len(findings) >= MOST_FINDINGS:
                break
    seconds = time.monotonic() - start
    total = runs.total()
    print(f"{total} runs in {seconds:.0f} s ({total / seconds:.0f}/s), {vacuous.total()} with a loose bound, {len(findings)} findings")
    print(", ".join(f"{name} {count}" for name, count in sorted(runs.items())))
    if options.log:
        line = {"seed": options.seed, "templates": options.templates, "seconds": round(seconds), "commit": _commit(), "runs": dict(runs),
                "vacuous": dict(vacuous), "findings": findings}  # fmt: skip
        with options.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
    return bool(findings)


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _watched(words: list[str], notes: Path) -> str | None:
    """Run a worker; return how it ended if that was no good end."""
    process = subprocess.Popen([sys.executable, "-X", "faulthandler", "-m", "tests.fuzz", *words], cwd=ROOT)
    seen, since = b"", time.monotonic()
    while process.poll() is None:
        time.sleep(0.2)
        now = notes.read_bytes()
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > HANG_S:
            process.kill()
            process.wait()
            return f"no end after {HANG_S:.0f} s"
    code = process.returncode
    return None if code == 0 else f"the process died of signal {-code}" if code < 0 else f"the process ended with {code}"


def _crashed(case: str, how: str) -> dict[str, str]:
    end = time.monotonic() + SHRINKING_S

    def crashes(candidate: Case) -> bool:
        if time.monotonic() > end:
            return False
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tests.fuzz", "--case", str(candidate)], cwd=ROOT, capture_output=True, timeout=HANG_S, check=False
            )
        except subprocess.TimeoutExpired:
            return True
        return done.returncode not in {0, 1}

    first = Case.parse(case)
    small = shrunk(first, crashes, PROCESSES) if crashes(first) else first
    return {"case": str(small), "first": case, "wrong": how}
