"""What `import minimand` adds to `import torch`: whole processes in turn, CPU time, medians."""

import argparse
import resource
import statistics
import subprocess
import sys
from functools import partial

from turns import in_turns, machine

STATEMENTS = {
    "import torch": "import torch",
    "import minimand": "import torch; import minimand",
    "mm.certify": "import torch; import minimand as mm; mm.certify",
    "mm.create_model": "import torch; import minimand as mm; mm.create_model",
    "mm.fit": "import torch; import minimand as mm; mm.fit",
}


def seconds(statement: str) -> float:
    """The CPU time of a Python process that runs the statement."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    measures = {name: partial(seconds, statement) for name, statement in STATEMENTS.items()}
    results = in_turns(measures, rounds, warmup=1)  # the first round fills the caches
    print(f"{machine()}, {rounds} rounds")
    print(f"{'process':20}{'CPU s':>8}{'added s':>9}")
    for name, values in results.items():
        added = statistics.median(v - b for v, b in zip(values, results["import torch"], strict=True))
        print(f"{name:20}{statistics.median(values):8.2f}{added:9.2f}")


if __name__ == "__main__":
    main()
