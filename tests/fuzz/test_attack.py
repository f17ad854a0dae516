"""Damaged files of every kind: a clear error or the same answer; `make soak` reads ten thousand of them."""

import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from fuzz.attack import SECONDS, Target
from fuzz.kinds import kinds
from fuzz.mutate import mutated

KINDS = kinds()


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_refused_or_read_as_it_was(name: str, tmp_path: Path) -> None:
    target = Target(KINDS[name], tmp_path / "place")

    @settings(max_examples=8)
    @given(st.randoms(use_true_random=False))
    def check(random: Random) -> None:
        content = mutated(target.content, random)
        began = time.process_time()
        verdict = target.verdict(content)
        assert verdict in ("same", "refused", "replaced", "read rightly"), verdict
        assert time.process_time() - began < SECONDS

    check()
