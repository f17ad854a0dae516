"""`make soak`: faults and damaged files side by side, and their counts in `results/soak.md` and `results/soak.json`."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FAULTS = {
    "kills": "killed",
    "full disks": "disk full",
    "pairs of processes": "two processes",
    "silent differences": "silent differences",
}
VERDICTS = ("refused", "same", "replaced", "read rightly")


def main() -> int:
    """Run the soak; the exit status is 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=600)
    parser.add_argument("--disks", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--mutants", type=int, default=11_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.json" for name in ("faults", "attack")}
        faults = ["--kills", options.kills, "--disks", options.disks, "--pairs", options.pairs]
        scripts = {"faults": ["soak/faulty.py", *faults], "attack": ["fuzz/attack.py", "--mutants", options.mutants]}
        processes = []
        for name, (script, *numbers) in scripts.items():
            words = [*numbers, "--seed", options.seed, "--output", files[name]]
            processes.append(subprocess.Popen([sys.executable, ROOT / "tests" / script, *map(str, words)]))
        statuses = [process.wait() for process in processes]
        reports = {name: json.loads(file.read_text()) for name, file in files.items() if file.is_file()}
    minutes = (time.monotonic() - began) / 60
    if len(reports) == 2:
        content = {"when": _when(), "minutes": round(minutes), "seed": options.seed, **reports}
        (ROOT / "results" / "soak.json").write_text(json.dumps(content, indent=1) + "\n")
        (ROOT / "results" / "soak.md").write_text(page(content))
    return max(statuses)


def _when() -> dict[str, str]:
    """The commit, date and machine of a soak."""
    from minimand._support.torch.environment import environment

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    about = environment()
    processor = about["hardware"].partition(",")[0]
    return {
        "commit": commit.stdout.strip() or "no git",
        "date": about["date"][:10],
        "hardware": f"2 cores of an {processor}",
        "torch": about["torch"],
    }


def page(content: dict[str, Any]) -> str:
    """The counts as Markdown."""
    faults, attack = content["faults"], content["attack"]
    rows = [_row(name, counts, list(FAULTS)) for name, counts in faults["by scene"].items()]
    rows.append(_row("**all**", faults["counts"], list(FAULTS)))
    lines = _table(["command", *FAULTS.values()], rows)
    damaged = [_mutants(name, counts) for name, counts in attack["by kind"].items()]
    damaged.append(_mutants("**all**", attack["counts"]))
    lines += ["", *_table(["file", "damaged", *VERDICTS, "wrong"], damaged), "", _note(content)]
    return "\n".join(lines) + "\n"


def _note(content: dict[str, Any]) -> str:
    when, problems = content["when"], len(content["faults"]["problems"]) + len(content["attack"]["problems"])
    where = f"Commit {when['commit']}, {when['date']}, {when['hardware']}, torch {when['torch']}"
    return f"{where}, seed {content['seed']}; {content['minutes']} minutes; {problems} problems."


def _row(name: str, counts: dict[str, int], keys: list[str]) -> list[str]:
    return [name, *(f"{counts.get(key, 0):,}" for key in keys)]


def _mutants(name: str, counts: dict[str, int]) -> list[str]:
    wrong = sum(count for verdict, count in counts.items() if verdict not in VERDICTS)
    return [name, f"{sum(counts.values()):,}", *(f"{counts.get(key, 0):,}" for key in VERDICTS), f"{wrong:,}"]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---", *["--:"] * (len(head) - 1)], *rows)]


if __name__ == "__main__":
    sys.exit(main())
