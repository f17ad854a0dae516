"""Tables are as wide as the console at most, and break no word that fits."""

import io
import re

import pytest
from hypothesis import given, settings, strategies as st
from rich.console import Console

from minimand._support.tables import make_table, table_html

NAMES = [
    "HeavyBall(step_size=1.0, momentum=0.5)",
    "path/to/net.py:Net(width=64)",
    "GradientDescent",
    "a.b.layers.0.block",
]


def _printed(width: int, *table: object) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    console.print(make_table(*table))  # pyright: ignore[reportArgumentType]
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.floats(0, 1e6), st.floats(0, 1)), min_size=1, max_size=4),
    st.integers(60, 120),
)
@settings(max_examples=40, deadline=None)
def test_a_table_fits_and_its_numbers_and_words_stay_whole(rows: list[tuple[str, float, float]], width: int) -> None:
    cells = [[name, f"{a:.2f} ± {b:.2f}", f"{b:.4f}", f"{a:,.0f}"] for name, a, b in rows]
    text = _printed(width, ["algorithm", "test accuracy %", "test loss", "parameters"], cells)
    assert max(map(len, text.splitlines())) <= width
    for name, *numbers in cells:
        assert all(number in text for number in numbers)
        assert all(word in text for word in re.findall(r"\w+", name))


def test_deviations_go_to_a_line_of_their_own_before_words_break() -> None:
    heads = ["algorithm", "test accuracy %", "test loss", "learning rate", "training s", "parameters", "MFLOPs"]
    numbers = ["65.56 ± 3.14", "1.2043 ± 0.0463 (1 of 3 diverged)", "0.005", "0", "71,370", "0.1"]
    text = _printed(80, heads, [["GradientDescent(step_size=1.0)", *numbers]])
    assert max(map(len, text.splitlines())) <= 80
    assert all(part in text for part in ("GradientDescent(", "training", "65.56 ±", "1.2043 ±", "0.0463", "diverged)"))


@pytest.mark.parametrize("width", [40, 60, 80])
def test_descriptions_wrap_between_words(width: int) -> None:
    text = _printed(width, ["name", "description"], [["target_propagation", "Every threshold unit gets a target."]])
    assert max(map(len, text.splitlines())) <= width
    assert "target_propagation" in text
    assert all(word in text for word in ("Every", "threshold", "unit", "gets", "target."))


def test_html_of_a_table_is_escaped() -> None:
    assert "<td>a &lt; b</td>" in table_html(["x<y"], [["a < b"]])
    assert "<th>x&lt;y</th>" in table_html(["x<y"], [["a < b"]])
