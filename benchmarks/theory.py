"""What certificates, comparisons and names of deep networks cost: processor time by depth, and the exponent of depth.

Methods whose state has a constant size are to cost what is linear in depth; of a dense one the history alone is its
square. Run it on one thread: `OMP_NUM_THREADS=1 python benchmarks/theory.py`; results/ holds a committed run.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from turns import machine

import minimand as mm
from minimand.theory.kernel import kernel

QUESTIONS: dict[str, Callable[[int], Any]] = {
    "certify heavy_ball": partial(mm.certify, "heavy_ball"),
    "certify fista": partial(mm.certify, "fista"),
    "certify shared_admm": partial(mm.certify, "shared_admm"),
    "equivalent nesterov, nesterov_y": partial(mm.equivalent, "nesterov", "nesterov_y"),
    "equivalent fista, nesterov": partial(mm.equivalent, "fista", "nesterov"),
    "identify heavy_ball": partial(mm.identify, "heavy_ball"),
    "kernel heavy_ball, its gains": lambda depth: kernel(mm.algorithms.HeavyBall(), depth).gains,
}
DENSE: dict[str, Callable[[int], Any]] = {
    "certify dense_nesterov": partial(mm.certify, "dense_nesterov"),
    "equivalent dense_nesterov, fista": partial(mm.equivalent, "dense_nesterov", "fista"),
    "identify dense_nesterov": partial(mm.identify, "dense_nesterov"),
    "certify dense_former": partial(mm.certify, "dense_former"),
    "identify dense_former": partial(mm.identify, "dense_former"),
}


REGISTRY = [name for name, cls in mm.algorithms.ALGORITHMS.items() if len(set(kernel(cls(), 3).memory)) == 1]


def seconds(question: Callable[[int], Any], depth: int) -> float:
    """The processor time of a question, the least of two."""
    times = []
    for _ in range(2):
        before = time.process_time()
        question(depth)
        times.append(time.process_time() - before)
    return min(times)


def report(questions: dict[str, Callable[[int], Any]], depths: list[int]) -> None:
    """Print the times of questions by depth, with the exponent from the second depth to the last."""
    print(f"\n{'seconds':34}" + "".join(f"{depth:>9}" for depth in depths) + "   exponent")
    for name, question in questions.items():
        question(3)  # imports
        times = [seconds(question, depth) for depth in depths]
        exponent = math.log(times[-1] / times[1]) / math.log(depths[-1] / depths[1])
        print(f"{name:34}" + "".join(f"{t:9.3f}" for t in times) + f"{exponent:11.2f}", flush=True)


def sweep(depth: int) -> None:
    """Print what every algorithm whose state has a constant size costs at one depth."""
    print(
        f"\n{f'seconds, {depth} layers':34}" + "".join(f"{word:>12}" for word in ("certify", "equivalent", "identify"))
    )
    for name in REGISTRY:
        mm.certify(name, 3)
        questions = partial(mm.certify, name), partial(mm.equivalent, name, name), partial(mm.identify, name)
        times = [seconds(question, depth) for question in questions]
        print(f"{name:34}" + "".join(f"{t:12.3f}" for t in times), flush=True)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", type=int, nargs="+", default=[100, 250, 500, 1000], help="of constant states")
    parser.add_argument("--dense", type=int, nargs="+", default=[25, 50, 100], help="depths of dense methods")
    arguments = parser.parse_args()
    print(machine())
    report(QUESTIONS, arguments.depths)
    report(DENSE, arguments.dense)
    sweep(arguments.depths[-1])


if __name__ == "__main__":
    main()
