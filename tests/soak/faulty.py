"""The soak of faults: commands killed at any file operation, on a full disk, and two at a time, then run to the end.

`python tests/soak/faulty.py --kills 500 --output FILE` writes its counts and what went wrong as JSON; it starts itself
again with faults.c preloaded.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from soak.faults import Fault, compiler, is_preloaded, run_preloaded
from soak.scenes import Scene, differences, results, scenes
from soak.warm import KILLED, Outcome, call, run, start, warm_up

# Of a command that goes wrong so often no more is learned.
_ENOUGH = 20


@dataclass
class Report:
    """The counts of a soak, and what went wrong in words."""

    counts: Counter[str] = field(default_factory=Counter)
    by_scene: dict[str, Counter[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Stage:
    """A scene with its undisturbed end, in a temporary folder."""

    def __init__(self, name: str, scene: Scene, place: Path, report: Report) -> None:
        self.name, self.scene, self.place, self.report = name, scene, place, report
        self.counts = report.by_scene.setdefault(name, Counter())
        self.begin = place / "begin"
        self.begin.mkdir(parents=True)
        for words in scene.before:
            outcome = run(words, self.begin)
            assert outcome.status == 0, outcome.err
        with self.folder() as work:
            outcome = run(scene.words, work)
            assert outcome.status == 0, f"{name}: {outcome.err}"
            self.operations = outcome.operations
            self.expected = self.end(work)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder as it is before the command."""
        work = self.place / "work"
        shutil.copytree(self.begin, work)
        try:
            yield work
        finally:
            shutil.rmtree(work)

    def end(self, work: Path) -> Any:
        """What a folder says at the end."""
        said = call(lambda: results(work), work)
        outputs = [run(words, work) for words in self.scene.after]
        return said | {f"output {i}": outcome.out for i, outcome in enumerate(outputs)}

    def count(self, what: str) -> None:
        """Count an event, in all and for this scene."""
        self.counts[what] += 1
        self.report.counts[what] += 1

    def problem(self, what: str, how: str) -> None:
        """Note what went wrong."""
        self.count("problems")
        self.report.problems.append(f"{self.name}, {how}: {what}")

    def finish(self, work: Path, how: str) -> None:
        """Run the command again and compare the end with the undisturbed one."""
        outcome = run(self.scene.words, work)
        if outcome.status != 0:
            self.problem(f"cannot go on: status {outcome.status}, {outcome.err[-1500:]}", how)
            return
        try:
            said = self.end(work)
        except (RuntimeError, ValueError) as error:
            self.problem(f"unreadable at the end: {str(error)[-1500:]}", how)
            return
        if changed := differences(self.expected, said):
            self.count("silent differences")
            self.problem("another end: " + "; ".join(changed[:5]), how)


def killed(stage: Stage, random: random.Random) -> None:
    """Kill the command once or, one time in four, twice, and run it to the end."""
    with stage.folder() as work:
        marks = []
        for _ in range(1 if random.random() < 0.75 else 2):
            at, fault = random.randint(1, stage.operations), random.choice([Fault.KILL_BEFORE, Fault.KILL_AFTER])
            marks.append(f"{fault.name} {at}")
            outcome = run(stage.scene.words, work, at, fault)
            if outcome.status == KILLED:
                stage.count("kills")
            elif outcome.status != 0:
                stage.problem(_unclear(outcome), " then ".join(marks))
        stage.finish(work, " then ".join(marks))


def full(stage: Stage, random: random.Random) -> None:
    """Let the disk be full from some operation on, then run the command again on one that is not."""
    with stage.folder() as work:
        how = f"DISK_FULL {(at := random.randint(1, stage.operations))}"
        outcome = run(stage.scene.words, work, at, Fault.DISK_FULL)
        stage.count("full disks")
        if not outcome.is_clear:
            stage.problem(_unclear(outcome), how)
        stage.finish(work, how)


def twice(stage: Stage, random: random.Random) -> None:
    """Run the command in two processes at about the same time."""
    with stage.folder() as work:
        first = start(stage.scene.words, work)
        time.sleep(random.random() * 0.4)
        second = start(stage.scene.words, work)
        outcomes = [first.wait()[0], second.wait()[0]]
        stage.count("pairs of processes")
        for outcome in outcomes:
            if not outcome.is_clear:
                stage.problem(_unclear(outcome), "two processes")
        if all(outcome.status for outcome in outcomes):
            stage.problem(f"neither worked: {outcomes[0].err} {outcomes[1].err}", "two processes")
        stage.finish(work, "two processes")


def _unclear(outcome: Outcome) -> str:
    return f"status {outcome.status} with {outcome.err[-1500:] or 'no word'}"


def soak(kills: int, disks: int, pairs: int, seed: int, only: list[str], say: Callable[[str], None]) -> Report:
    """Disturb all scenes until each has its share of so many kills, full disks and pairs of processes."""
    report = Report()
    chosen = {name: scene for name, scene in scenes().items() if not only or name in only}
    warm_up(scene.words[0] for scene in chosen.values())
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, scene) in enumerate(chosen.items()):
            began, draw = time.monotonic(), random.Random(f"{seed} {name}")
            try:
                stage = Stage(name, scene, Path(folder) / str(number), report)
            except (AssertionError, RuntimeError) as error:
                report.problems.append(f"{name}, undisturbed: {error}")
                continue
            all_shares = sum(scene.share for scene in chosen.values())
            for what, disturb, total in _disturbances(kills, disks, pairs):
                while stage.counts[what] < total * scene.share / all_shares and stage.counts["problems"] < _ENOUGH:
                    disturb(stage, draw)
            text = ", ".join(f"{count} {what}" for what, count in stage.counts.items())
            say(f"{name}: {stage.operations} file operations, {text} ({time.monotonic() - began:.0f} s)")
    return report


def _disturbances(kills: int, disks: int, pairs: int) -> list[tuple[str, Callable[[Stage, random.Random], None], int]]:
    return [("kills", killed, kills), ("full disks", full, disks), ("pairs of processes", twice, pairs)]


def main() -> int:
    """Run the soak as its arguments say; the exit status is 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=600)
    parser.add_argument("--disks", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if compiler() is None:
        print("no C compiler, or not Linux: file operations cannot be made to fail")
        return 1
    if not is_preloaded():
        return run_preloaded(sys.argv)
    report = soak(
        options.kills, options.disks, options.pairs, options.seed, options.only, lambda x: print(x, flush=True)
    )
    content = {"counts": report.counts, "by scene": report.by_scene, "problems": report.problems}
    if options.output:
        options.output.write_text(json.dumps(content, indent=1) + "\n")
    for problem in report.problems:
        print(problem)
    print(dict(report.counts))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
