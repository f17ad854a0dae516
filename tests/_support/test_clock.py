from collections.abc import Iterator

import pytest
from hypothesis import given, strategies as st

from minimand._support import clock
from minimand._support.clock import Clock, timed, timing

PARTS = st.sampled_from(["data", "forward", "backward"])
WORK = st.recursive(
    st.integers(0, 100), lambda inner: st.tuples(PARTS, st.lists(inner, max_size=4)) | st.lists(inner, max_size=4)
)


class Time:
    """A time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def passing() -> Iterator[Time]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "time", time := Time())
        yield time


@given(work=WORK)
def test_every_moment_counts_for_the_innermost_part_and_for_nothing_else(work: object) -> None:
    expected: dict[str, float] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "time", time := Time())

        def do(work: object, part: str) -> None:
            match work:
                case int():
                    time.now += work
                    expected[part] = expected.get(part, 0.0) + work
                case (str(name), parts):
                    with timing(name):
                        do([*parts], name)
                case [*parts]:
                    for inner in parts:
                        do(inner, part)

        measured = Clock()
        with measured.running():
            do([work], "other")
    assert sum(measured.seconds.values()) == time.now
    assert {k: v for k, v in measured.seconds.items() if v} == {k: v for k, v in expected.items() if v}


def test_a_part_that_fails_ends_and_without_a_clock_nothing_is_counted(passing: Time) -> None:
    @timed("forward")
    def fail() -> None:
        passing.now += 1
        raise KeyError

    measured = Clock()
    with pytest.raises(KeyError):
        fail()
    with measured.running():
        with pytest.raises(KeyError):
            fail()
        passing.now += 2
    with pytest.raises(KeyError):
        fail()
    assert measured.seconds == {"forward": 1, "other": 2}


def test_a_device_is_waited_for_at_every_change_of_parts() -> None:
    waits: list[int] = []
    with Clock(lambda: waits.append(1)).running(), timing("data"):
        pass
    assert len(waits) == 3
