"""Thousands of damaged files, each read in a process that ends where reading takes too long or too much memory.

One property: a clear error, or the same answer, within two seconds of the processor and 500 MB.
`python tests/fuzz/attack.py --mutants 10000 --output FILE` writes its counts and what went wrong as JSON.
"""

import argparse
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz.kinds import Kind, kinds
from fuzz.mutate import mutated
from soak.warm import call, warm_up

SECONDS, MEGABYTES = 2.0, 500


@dataclass
class Report:
    """The counts of an attack by verdict, and what went wrong in words."""

    counts: Counter[str] = field(default_factory=Counter)
    by_kind: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Target:
    """A folder with a good file of a kind, and what it says."""

    def __init__(self, kind: Kind, place: Path) -> None:
        self.kind, self.place = kind, place
        place.mkdir(parents=True)
        call(lambda: kind.make(place), place)
        (self.file,) = place.glob(kind.file)
        self.content = self.file.read_bytes()
        self.expected = call(lambda: kind.read(place), place)
        self.substitute = None
        if kind.without:
            self.file.write_bytes(b"")
            self.substitute = call(lambda: kind.read(place), place)

    def verdict(self, content: bytes) -> str:
        """What comes of a damaged file: one of `same`, `refused`, `replaced`, `read rightly`, or what is wrong."""
        from minimand._support.errors import LONGEST_MESSAGE, MinimandError

        self.file.write_bytes(content)
        try:
            said = json.loads(json.dumps(self.kind.read(self.place)))
        except MinimandError as error:
            unclear = not str(error).strip() or len(str(error)) > LONGEST_MESSAGE or "\n" in str(error)
            return f"UNCLEAR: {str(error)[:1500]!r}" if unclear else "refused"
        except BaseException:
            return f"TRACEBACK: {traceback.format_exc()[-1500:]}"
        if said == self.expected:
            return "same"
        if self.substitute is not None and said == self.substitute:
            return "replaced"
        if self.kind.independent is None:
            return f"SILENT DIFFERENCE: {str(said)[:200]}"
        try:
            right = self.kind.independent(self.place)
        except Exception as error:
            return f"SILENT DIFFERENCE: the file is bad ({type(error).__name__}: {error}), {str(said)[:200]}"
        if right is None or json.loads(json.dumps(right)) == said:
            return "read rightly"
        return f"SILENT DIFFERENCE: {str(said)[:200]}; expected {str(right)[:200]}"


def verdicts(target: Target, contents: Callable[[int], bytes], numbers: range) -> Iterator[tuple[int, str]]:
    """The verdict of each damaged file; a file that ends the process gets the signal as its verdict."""
    log = target.place.with_suffix(".log")
    first = numbers.start
    while first < numbers.stop:
        log.write_bytes(b"")
        pid = os.fork()
        if pid == 0:
            _attack(target, contents, range(first, numbers.stop), log)
        _, status = os.waitpid(pid, 0)
        for line in log.read_text().splitlines():
            yield first, json.loads(line)
            first += 1
        if first < numbers.stop:
            name = signal.Signals(status & 127).name if status & 127 else f"status {status >> 8}"
            yield first, f"PROCESS ENDED: {'over two seconds' if name == 'SIGPROF' else name}"
            first += 1


def _attack(target: Target, contents: Callable[[int], bytes], numbers: range, log: Path) -> None:
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        warnings.simplefilter("ignore")
        target.verdict(target.content)  # imports what is imported late, before the clock runs
        memory = int(next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmData" in x).split()[1])
        limit = memory * 1024 + MEGABYTES * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with log.open("a") as file:
            for number in numbers:
                content = contents(number)
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                verdict = target.verdict(content)
                signal.setitimer(signal.ITIMER_PROF, 0)
                file.write(json.dumps(verdict) + "\n")
                file.flush()
    finally:
        os._exit(0)


def attack(mutants: int, seed: int, only: list[str], say: Callable[[str], None], keep: Path | None = None) -> Report:
    """Damage each kind's share of so many files and read them; the files that went wrong are kept in a folder."""
    report = Report()
    chosen = {name: kind for name, kind in kinds().items() if not only or name in only}
    all_shares = sum(kind.share for kind in chosen.values())
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        for place, (name, kind) in enumerate(chosen.items()):
            began = time.monotonic()
            counts = report.by_kind.setdefault(name, Counter())
            try:
                target = Target(kind, Path(folder) / str(place))
            except RuntimeError as error:
                report.problems.append(f"{name}: {error}")
                continue

            def content(number: int, target: Target = target, name: str = name) -> bytes:
                return mutated(target.content, random.Random(f"{seed} {name} {number}"))

            share = math.ceil(mutants * kind.share / all_shares)
            for number, verdict in verdicts(target, content, range(share)):
                what, _, text = verdict.partition(": ")
                counts[what] += 1
                if text:
                    report.problems.append(f"{name}, mutant {number} of seed {seed}: {verdict}")
                    if keep is not None:
                        keep.mkdir(parents=True, exist_ok=True)
                        (keep / f"{name}-{number}").write_bytes(content(number))
            report.counts += counts
            say(f"{name}: {dict(counts)} ({time.monotonic() - began:.0f} s)")
            shutil.rmtree(target.place)
    return report


def main() -> int:
    """Run the attack as its arguments say; the exit status is 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--keep", type=Path, help="a folder for the files that went wrong")
    options = parser.parse_args()
    report = attack(options.mutants, options.seed, options.only, lambda line: print(line, flush=True), options.keep)
    content = {"counts": report.counts, "by kind": report.by_kind, "problems": report.problems}
    if options.output:
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    for problem in report.problems:
        print(problem)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
