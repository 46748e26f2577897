"""What a person sees while a run trains."""

import io

from rich.console import Console

from mtdnn_tf.evaluation.progress import TrainingProgress


def shown(**kwargs):
    written = io.StringIO()
    with TrainingProgress(10, console=Console(file=written, width=150, **kwargs)) as progress:
        progress.update(
            step=5,
            epoch=1,
            loss={"mood": 0.5, "same": 0.25},
            examples={"mood": 3, "same": 1},
            examples_per_second=42.0,
            fill=0.987,
        )
    return written.getvalue()


def test_a_terminal_has_a_bar_with_mix_loss_speed_slots_filled_and_time_left():
    text = shown(force_terminal=True, color_system=None)
    for part in (
        "mood 0.500 (75%) same 0.250 (25%)",
        "50%",
        "42 examples/s, 98.7% filled",
        "━",
        "-:--:--",
    ):
        assert part in text
    assert "\x1b[" in text  # Drawn in place.


def test_elsewhere_there_is_a_plain_line():
    mix, speed = "mood 0.500 (75%) same 0.250 (25%)", "42 examples/s, 98.7% filled"
    assert shown() == f"step 5/10 epoch 1 | {mix} | {speed} | -:-- left\n"
