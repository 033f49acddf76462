"""What a person sees while a job runs."""

import io

import pytest
from rich.console import Console

from experiment.console.progress import Progress, human_time


def shown(*, terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80, highlight=False, soft_wrap=True)
    with Progress(console) as progress:
        progress.say("odd [1/2] glu(activation=[silu]): nDCG@10 0.5")
        with progress.step("searching for [bold]x", 1) as advance:
            advance(0.25)
            progress.say("a line above the bar")
            advance(0.75)
    return out.getvalue()


def test_without_a_terminal_there_are_lines_only():
    assert shown(terminal=False) == "odd [1/2] glu(activation=[silu]): nDCG@10 0.5\na line above the bar\n"


def test_in_a_terminal_there_is_a_bar_too():
    out = shown(terminal=True)
    assert "a line above the bar" in out
    assert "searching for [bold]x" in out
    assert "\x1b[" in out


def test_a_bar_is_taken_away_when_its_step_fails():
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=True)) as progress:
        with pytest.raises(ValueError), progress.step("a step", 1):
            raise ValueError
        out.truncate(0)
        with progress.step("the next step", 1):
            pass
    assert "the next step" in out.getvalue()
    assert "a step" not in out.getvalue()


@pytest.mark.parametrize(
    "seconds, text",
    [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (1500, "25 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds, text):
    assert human_time(seconds) == text
