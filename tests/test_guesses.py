"""Guesses: what counts as one, what is kept, and how they are summed up."""

import json
import warnings

import pytest
from guessing import spoken_of

from kdnb.course.interactive.guess_views import Summary
from kdnb.course.interactive.guesses import Guessed, Guesses
from kdnb.course.interactive.widgets import Guess, Prediction
from kdnb.course.report.protocol import COMPONENT, HEADLESS
from kdnb.tasks import TASKS

MNIST_SMALL = TASKS["mnist-small"]


def asked(key="02", task="mnist-small"):
    return Guess("Gain:", -5, 15, 2, unit="points", task=task, key=key)


def move(guess, value):
    guess.box.children[-1].value = value


@pytest.fixture
def live(monkeypatch):
    """As with a reader before the kernel; gives a switch."""

    def switch(on=True):
        for module in ("widgets", "guess_views"):
            monkeypatch.setattr(f"kdnb.course.interactive.{module}.live_kernel", lambda: on)

    switch()
    return switch


def kept(key="02", task="mnist-small"):
    return Guesses(task).all()[key]


# What counts


def test_headless_the_sliders_default_is_no_guess():
    guess = asked()
    move(guess, 3)  # by a script
    assert guess.value == 3 and guess.made is None
    said = guess.reveal(7.5, 6.4, 8.6).data
    assert said == "Result: **+7.5 points (95 % interval +6.4 to +8.6)**."
    assert kept().guess is None and not kept().shown and kept().value == 7.5


def test_headless_outputs_do_not_speak_of_guesses(monkeypatch):
    monkeypatch.setenv(HEADLESS, "1")
    guess = asked()
    choice = Prediction("Effect:", ["less", "more"], "more", -80, 20, 0, task="mnist-small",
                        key="08/1")  # fmt: skip
    shown = [guess, guess.reveal(7.5, 6.4, 8.6), choice, choice.reveal_choice("less", -2, -3, -1)]
    shown += Summary(MNIST_SMALL).parts
    for each in shown:
        made = each._repr_mimebundle_()
        data = made[0] if isinstance(made, tuple) else made
        words = f"{data['text/plain']} {data['text/markdown']}"
        assert spoken_of(words) == [], words
        json.dumps(data[COMPONENT], allow_nan=False)
    assert shown[0]._repr_mimebundle_()[0]["text/markdown"] == "Gain:"
    for live in ("You made no guess", "the slider's default", "Your guess: 3", "show no guesses"):
        assert spoken_of(live)


def test_a_slider_that_nobody_moved_is_no_guess(live):
    guess = asked()
    assert guess.made is None
    assert "You made no guess" in guess.reveal(7.5, 6.4, 8.6).data
    assert kept().guess is None and kept().shown


def test_the_last_position_before_the_answer_counts(live):
    guess = asked()
    move(guess, 5)
    move(guess, 7)
    assert guess.made == 7
    said = guess.reveal(7.5, 6.4, 8.6).data
    assert "Your guess: **+7.0 points**" in said and "(within the interval)" in said
    assert kept().guess == 7


def test_a_slider_moved_back_to_its_resting_place_is_a_guess(live):
    guess = asked()
    move(guess, 5)
    move(guess, 2)
    guess.reveal(7.5)
    assert kept().guess == 2


def test_what_is_moved_after_the_answer_does_not_count(live):
    guess = asked()
    move(guess, 3)
    guess.reveal(7.5)
    move(guess, 7.5)
    said = guess.reveal(7.5).data
    assert "Your guess: **+3.0 points**" in said and "after the result was shown" in said
    again = asked()  # the notebook is run again, another day
    assert "Your guess: **+3.0 points**" in again.reveal(7.5).data
    move(again, 7.5)
    again.reveal(7.5)
    assert kept().guess == 3


def test_who_first_saw_the_answer_cannot_guess_any_more(live):
    guess = asked()
    guess.reveal(7.5)
    move(guess, 7.5)
    said = guess.reveal(7.5).data
    assert "You made no guess" in said and "after the result was shown" in said
    assert kept().guess is None


def test_a_headless_run_neither_takes_nor_spoils_a_guess(live):
    live(False)
    asked().reveal(7.5)
    live(True)
    guess = asked()
    move(guess, 4)
    guess.reveal(7.5)
    live(False)
    assert asked().reveal(8.0).data == "Result: **+8.0 points**."
    assert kept().guess == 4 and kept().value == 8.0 and kept().shown


def test_without_a_key_nothing_is_kept_but_the_first_guess_counts(live, tmp_path):
    guess = Guess("How many?", 0, 10, 4)
    move(guess, 6)
    guess.reveal(9)
    move(guess, 9)
    assert "Your guess: **6.0**" in guess.reveal(9).data
    assert list(tmp_path.rglob("guesses*")) == []


# How far off


@pytest.mark.parametrize(
    ("guess", "outcome", "verdict"),
    [
        (7, (7.5, 6.4, 8.6), "within the interval"),
        (8.6, (7.5, 6.4, 8.64), "within the interval"),
        (9, (7.5, 6.4, 8.6), "too high by 1.5"),
        (5, (7.5, None, None), "too low by 2.5"),
        (7.5, (7.52, None, None), "right"),
        (5, (None, None, None), "nothing to compare with"),
    ],
)
def test_how_far_off_in_words(guess, outcome, verdict):
    value, low, high = outcome
    assert Guessed("?", "points", 1, [-5, 15], 2, value, low, high).judged(guess) == verdict


def test_an_outcome_without_a_number_is_said(live):
    guess = asked()
    move(guess, 3)
    said = guess.reveal(None).data
    assert "Result: **no number**." in said and "(nothing to compare with)" in said


# What is kept


def test_tasks_have_guesses_of_their_own(live):
    for task, value in (("mnist-small", 3), ("polyps", 4)):
        guess = asked(task=task)
        move(guess, value)
        guess.reveal(1.0)
    assert kept(task="mnist-small").guess == 3 and kept(task="polyps").guess == 4
    own = Guesses("my_module:my_task")
    own.keep("02", kept())
    assert own.path.name == "guesses-my_module_my_task.json" and own.all() == {"02": kept()}


def test_other_questions_stay(live):
    for key in ("02", "08/1", "08/2"):
        asked(key).reveal(1.0)
    assert list(Guesses("mnist-small").all()) == ["02", "08/1", "08/2"]
    assert [path.name for path in Guesses("mnist-small").path.parent.iterdir()] == [
        "guesses-mnist-small.json"
    ]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"02": 3}', '{"02": {"question": "?"}}', '{"02": {"new": 1}}', "\xff",
     json.dumps({"02": {**vars(Guessed("?", "", 1, [0, 1], 0)), "guess": "seven"}})],
)  # fmt: skip
def test_a_file_that_holds_no_guesses_is_named_and_left_as_it_is(text):
    path = Guesses("mnist-small").path
    path.parent.mkdir()
    path.write_bytes(text.encode("latin-1"))
    with pytest.warns(UserWarning, match="holds no guesses"):
        assert Guesses("mnist-small").all() == {}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        asked().reveal(7.5)
    assert str(told[-1].message).startswith(f"this guess is not stored: {path} holds no guesses")
    assert str(told[-1].message).endswith("move this file to store new guesses")
    assert path.read_bytes() == text.encode("latin-1")
    path.unlink()
    asked().reveal(7.5)
    assert kept().value == 7.5


def test_what_cannot_be_written_is_said_and_breaks_nothing(tmp_path, monkeypatch, live):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KDNB_RUNS", str(tmp_path / "file" / "runs"))
    guess = asked()
    move(guess, 3)
    with pytest.warns(UserWarning, match="not stored: cannot write"):
        assert "Your guess: **+3.0 points**" in guess.reveal(7.5).data


# The summary


def test_the_summary_counts_what_readers_guessed(live):
    for key, value in (("02", 7), ("03", 3), ("06", 12), ("01", None)):
        guess = asked(key)
        if value is not None:
            move(guess, value)
        guess.reveal(7.5, 6.4, 8.6)
    summary = Summary(MNIST_SMALL)
    words = summary.words.data
    assert "You made **3** of 4 guesses: **1** within the interval or right, 1 too low" in words
    assert "1 too high" in words and words.endswith("Open: 00, 04, 05.")
    table = summary.table.data
    assert "| 02 | Gain | +7.0 points | +7.5 points (95 % interval +6.4 to +8.6) | within" in table
    assert "| 01 | Gain | no guess |" in table
    assert "| 04 | Does a student look at what its teacher looks at? | open |" in table
    alt = summary.picture.alt
    assert "02 result +7.5 points" in alt and "your guess +7.0 points" in alt
    assert "01 result" in alt and alt.count("your guess") == 3


def test_a_page_to_hand_out_has_questions_and_results_alone(live):
    guess = asked()
    move(guess, 7)
    guess.reveal(7.5, 6.4, 8.6)
    live(False)
    (table,) = Summary(MNIST_SMALL).parts
    assert "| 02 | Gain | +7.5 points (95 % interval +6.4 to +8.6) |" in table.data
    assert "+7.0" not in table.data and table.data.count("| not run yet |") == 6
    (question,) = table._repr_mimebundle_()[COMPONENT]["questions"]
    assert question == {
        "key": "02", "question": "Gain:", "unit": "points", "digits": 1, "ends": [-5, 15],
        "result": "+7.5 points (95 % interval +6.4 to +8.6)", "value": 7.5, "low": 6.4,
        "high": 8.6, "outcome": "",
    }  # fmt: skip


def test_a_summary_of_nothing_lists_what_is_open(live):
    summary = Summary(TASKS["polyps"])
    assert summary.words.data.endswith("Open: 01, 02, 03, 04, 05, 06.")
    assert summary.table.data.count("| open | not run yet |") == 6
    assert summary.picture.alt == "Guesses and results: none yet."


def test_the_summary_says_how_choices_did(live):
    said = Guessed("?", "points", 2, [-80, 20], 0, -2.0, -3.0, -1.0, -10.0, "less", "less", True)
    Guesses("mnist-small").keep("08/1", said)
    assert "Of 1 predicted outcomes 1 came true." in Summary(MNIST_SMALL).words.data
    assert "| -10.00 points, less | -2.00 points" in Summary(MNIST_SMALL).table.data
