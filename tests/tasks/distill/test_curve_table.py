"""Curves of a training as people see them in Prefect's pages."""

from __future__ import annotations

from tasks.distill.curve_table import WIDTH, curves_of, drawn


def test_a_curve_goes_from_its_least_to_its_greatest() -> None:
    assert drawn([0.0, 0.5, 1.0]) == "▁▅█"
    assert drawn([2.0, 2.0]) == "▄▄"


def test_a_long_curve_is_thinned_and_keeps_both_ends() -> None:
    shown = drawn([float(number) for number in range(1000)])
    assert (len(shown), shown[0], shown[-1]) == (WIDTH, "▁", "█")


def test_every_figure_has_a_row_with_what_the_kept_weights_have() -> None:
    history = [
        {"step": 4, "loss": 1.5, "epoch": 0.1},
        {"step": 8, "loss": 0.75, "val_qwk": 0.25, "epoch": 0.2},
        {"step": 12, "loss": 0.5, "val_qwk": 0.125, "epoch": 0.3},
    ]
    found = curves_of("student taught seed 0", history, history[1])
    assert found.key == "curves-student-taught-seed-0"
    assert isinstance(found.content, str)
    assert "steps 4 to 12; kept: the weights of step 8." in found.content
    assert "| `loss` | █▃▁ | 1.5 | 0.5 | 0.75 |" in found.content
    assert "| `val_qwk` | █▁ | 0.25 | 0.125 | 0.25 |" in found.content
