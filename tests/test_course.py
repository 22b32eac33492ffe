"""What the reader sees: figures with text, sentences from numbers, widgets that answer."""

import json
import re
from functools import cache

import pytest
import torch
from compared import comparison, right

from kdnb.course import figures, interactive, tables
from kdnb.course import text as words
from kdnb.course.figures import picture
from kdnb.course.figures.picture import image_tag
from kdnb.course.interactive import Progress, widgets
from kdnb.course.report.protocol import COMPONENT, HEADLESS, RESULTS
from kdnb.evaluation.metrics import Matching, calibration, confusion
from kdnb.evaluation.statistics import image_interval, joint_interval, mean_interval
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional
from kdnb.experiment.results import Update
from kdnb.training.loop import Epoch, History

KD = "student + conventional KD"
NAMES = ["a", "b", "c"]


def compared(alone, distilled):
    return comparison({ALONE.label: alone, KD: distilled}, 200)


CLEAR = compared([0.80, 0.81, 0.79], [0.90, 0.91, 0.89])
UNCLEAR = compared([0.80, 0.81, 0.79], [0.79, 0.83, 0.80])


def history(epochs=4):
    rows = [
        Epoch(1.0 / (i + 1), None, 1.0, 0.9 / (i + 1), 0.5 + 0.1 * i, 2.0) for i in range(epochs)
    ]
    return History(rows)


# Sentences


def test_a_clear_gain_is_called_one():
    sentence = words.gain_sentence(CLEAR, KD, ALONE.label)
    assert sentence.startswith("**A gain**") and "+10.00 points" in sentence
    assert "3 seeds and 200 images" in sentence and "on 200 test images" in sentence
    assert words.gain_sentence(CLEAR, ALONE.label, KD).startswith("**A loss**")


def test_an_interval_that_crosses_zero_is_no_gain():
    assert UNCLEAR.gain(KD, ALONE.label).mean > 0
    assert words.gain_sentence(UNCLEAR, KD, ALONE.label).startswith("**Not distinguishable**")


def test_a_sweep_names_what_cannot_be_told_from_the_best():
    rows = {"T = 4": [0.90, 0.91, 0.92], "T = 8": [0.91, 0.90, 0.91], "T = 1": [0.70, 0.71, 0.72]}
    sweep = comparison(rows, 300, "val")
    text = words.sweep_sentence(sweep, sweep.labels).data
    assert (
        "Highest mean accuracy: **T = 4** with 91.00 %" in text and "300 validation images" in text
    )
    assert "this accuracy is biased upwards" in text
    assert re.search(r"Not distinguishable from it \(Holm-adjusted\): T = 8\.", text)
    assert re.search(r"Worse \(Holm-adjusted\): T = 1\.", text)


def test_a_claim_is_adjusted_for_the_claims_beside_it():
    """One that is a little better: a gain alone, but not as the best of 20 that were tried."""
    accuracies = {"alone": [0.80] * 3, "one": [0.8125] * 3}
    few = comparison(accuracies, 400)
    others = {f"method {i}": [0.80, 0.81, 0.80] for i in range(19)}
    many = comparison(accuracies | others, 400)
    assert few.gain("one", "alone") == many.gain("one", "alone")
    assert 0.003 < few.gain("one", "alone").p < 0.05
    assert words.gain_sentence(few, "one", "alone").startswith("**A gain**")
    p = few.gain("one", "alone").p
    assert words.gain_sentence(few, "one", "alone").endswith(f"Holm-adjusted p = {p:.2g}.")
    assert words.gain_sentence(many, "one", "alone").startswith("**Not distinguishable**")
    cells = tables.result_table(many, "alone").text.splitlines()[3]
    assert cells.startswith("| one |") and cells.endswith("| not distinguishable |")
    numbers = tables.result_table(many, "alone").data["gain"]["one"]
    assert numbers["p_holm"] == pytest.approx(20 * numbers["p"])


def test_what_a_comparison_can_see_follows_from_its_width():
    gain = CLEAR.gain(KD, ALONE.label)
    wanted = 1.43 * 100 * (gain.high - gain.low) / 2
    assert f"a true difference of {wanted:.1f} points" in words.seen(gain)


def test_the_table_carries_its_numbers():
    teachers, plain = right([0.99, 0.98, 1.0], 200), {"SVM": right(0.85, 200)}
    made = tables.result_table(CLEAR, ALONE.label, teachers, plain)
    data = made._repr_mimebundle_()[0]
    table = data["text/markdown"]
    assert "| teacher | 99.00 % |" in table and "| 20, 18, 22 | +10.00 points" in table
    assert table.splitlines()[2].startswith("| SVM | 85.00 % |")  # below all that is trained
    ends = words.percent_range(image_interval(plain["SVM"]))
    assert table.splitlines()[2].endswith(f"| {ends} | 30 | – | – |")
    numbers = data[RESULTS]
    assert numbers["accuracy"][KD] == pytest.approx([0.90, 0.91, 0.89])
    assert numbers["gain"][KD]["mean"] == pytest.approx(0.1)


def test_divisions_side_by_side():
    teachers = [
        {"seed": s, "live": 8 + s, "recovered": right(0.5 + s / 10, 200),
         "correct": right(0.99, 200)} for s in range(3)
    ]  # fmt: skip
    made = tables.division_table({"by chance": teachers}, 10, "toy", plain={"k-means": 0.75})
    bundle = made._repr_mimebundle_()[0]
    *_, row, last = bundle["text/markdown"].splitlines()
    ends = words.percent_range(joint_interval(right([0.5, 0.6, 0.7], 200)), 1)
    assert row == f"| by chance | 8, 9, 10 of 10 | 60.0 % | {ends} | 50, 60, 70 | 99.00 % |"
    assert last == "| k-means | – | 75.0 % | – | – | – |"
    data = bundle[RESULTS]
    assert data["dataset"] == "toy" and data["subclass_outputs"] == 10
    assert [d["live"] for d in data["divisions"]["by chance"]] == [8, 9, 10]
    assert [d["recovered"] for d in data["divisions"]["by chance"]] == [0.5, 0.6, 0.7]


def test_kept_results_stand_beside_published_ones(tmp_path, monkeypatch):
    row = {"label": "teacher", "mean": 0.994, "low": 0.993, "high": 0.9955, "images": 10_000}
    plain = row | {"label": "SVM", "mean": 0.97, "low": 0.96, "high": 0.98}
    claim = row | {"over": "SVM", "mean": 0.024, "low": -0.001, "high": 0.05, "p_holm": 0.0123}
    made = {"table": "all", "rows": [row, plain], "claims": [claim]}
    origin = {"date": "2026-01-02T03:04", "device": "a toaster", "torch": "9.9"}
    kept = {"mnist": {"seeds": [0, 1], "provenance": origin, "test": [made]}}
    kept["copies"] = kept["mnist"] | {"test": [made | {"rows": [row]}]}
    numbers = [
        {"row": "teacher", "unit": "accuracy", "plain": ["SVM"]},
        {"row": "teacher", "unit": "error", "plain": []},
        {"row": "teacher", "unit": "errors", "plain": ["SVM"]},
        {"row": "teacher − SVM", "unit": "gain", "plain": []},
        {"row": "teacher", "unit": "errors", "task": "copies", "plain_of": "mnist",
         "plain": ["SVM"]},
    ]  # fmt: skip
    common = {"number": "a number", "published": "another", "task": "mnist"}
    for name, content in (
        ("final", kept),
        ("published", {"numbers": [common | n for n in numbers]}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    monkeypatch.setattr("kdnb.course.tables.kept.REFERENCE", tmp_path)
    *rows, _, origin = tables.published_table().data.splitlines()[2:]
    assert [row.removeprefix("| a number | another | ") for row in rows] == [
        "99.40 % (99.30 to 99.55); SVM 97.00 % |",
        "0.60 % (0.45 to 0.70) |",
        "60 (45 to 70); SVM 300 |",
        "+2.40 (-0.10 to +5.00), p = 0.012 (Holm) |",
        "60 (45 to 70); SVM 300 |",
    ]
    assert "Not computed here" in origin and "a toaster" in origin and "2026-01-02" in origin
    head, _, *rows = tables.kept_table("mnist", "all").data.split("\n\n")[0].splitlines()
    assert "mnist, 10,000 test images, 2 seeds" in head
    assert rows == [
        "| teacher | 99.40 % (99.30 to 99.55) |  |",
        "| SVM | 97.00 % (96.00 to 98.00) |  |",
        "| teacher − SVM | +2.40 (-0.10 to +5.00) | 0.012 |",
    ]


# Figures


MATCHING = Matching(
    torch.tensor([[0, 7], [3, 1], [0, 0], [2, 2]]), torch.tensor([1, 0, -1, -1]), 0.6
)


@cache
def pictures():
    images = torch.randint(256, (3, 1, 28, 28), dtype=torch.uint8)
    logits, labels = torch.randn(30, 3), torch.randint(3, (30,))
    both = {"one": logits[0], "two": logits[1]}
    interval = mean_interval([0.8, 0.9])
    return {
        "images": figures.images(images, ["one", "two", "three"]),
        "softened": figures.softened(images[0], logits[0], NAMES, [1, 4], 2),
        "predictions": figures.predictions(images[0], both, NAMES, 4.0, 2),
        "training_curves": figures.training_curves({"teacher": history()}, 4),
        "confusion": figures.confusion_matrix(confusion(logits, labels), NAMES),
        "reliability": figures.reliability({"T = 1": calibration(logits, labels)}),
        "comparison": figures.comparison(CLEAR, ALONE.label, guess=3.0),
        "subclass_tables": figures.subclass_tables({"so": MATCHING}, ["A", "B"], ["x", "y"]),
        "subclass_bars": figures.subclass_bars(images[0], logits[0, :2], ["A", "B"], 1, 4.0),
        "gallery": figures.gallery({"A no. 1": images, "B no. 1": images[:1]}),
        "logit_map": figures.logit_map({"both": torch.randn(30, 2)}, labels, labels, NAMES),
        "sweep": figures.sweep(
            [1, 2], {"KD": [interval, interval]}, xlabel="T", ylabel="accuracy (%)",
            log=True, baseline=interval, baseline_label="alone",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", pictures())
def test_every_figure_is_a_picture_with_words(name):
    picture = pictures()[name]
    data, metadata = picture._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == picture.alt == data["text/plain"]
    assert len(picture.alt) > 20


def test_the_words_say_what_the_figure_shows():
    logits = torch.tensor([0.0, 0.0, 2.0])
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    alt = figures.softened(image, logits, NAMES, [1.0], 2).alt
    # e² / (e² + 2) = 0.7870
    assert "labelled c" in alt and "at T = 1, class c has probability 0.787" in alt
    alt = figures.comparison(CLEAR, ALONE.label, guess=3.0).alt
    assert f"{KD} 90.00 %" in alt and "+10.00 points" in alt and "your guess +3.0" in alt
    counts = torch.tensor([[8, 2, 0], [0, 9, 1], [0, 0, 10]])
    alt = figures.confusion_matrix(counts, NAMES).alt
    assert "27 of 30 images classified correctly" in alt and "a predicted as b (2 times)" in alt


def test_tables_of_subclasses_name_partners_and_the_dead():
    """Rows in order of their partners: 2 (partner x), 1 (y); class B has one without images."""
    alt = figures.subclass_tables({"so": MATCHING}, ["A", "B"], ["x", "y"]).alt
    assert "A no. 2 has 4 images, most often x; A no. 1 has 7 images, most often y" in alt
    assert "B no. 2 has 4 images" in alt and alt.endswith("1 have none.")


def test_bars_of_subclasses_add_up_to_their_class():
    """Logits ln 3, 0 | 0, 0 at T = 1: classes 4/6 and 2/6, largest subclass 3/6."""
    logits = torch.tensor([3.0, 1.0, 1.0, 1.0]).log()
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    alt = figures.subclass_bars(image, logits, ["A", "B"], 0, 1.0).alt
    assert "A 0.667, B 0.333, entropy 0.92 bits" in alt
    # −½ log2 ½ − 3 · 1/6 log2 1/6 = 1.79
    assert "subclass is no. 1 of A with 0.500, entropy of all subclasses 1.79 bits" in alt


@pytest.mark.slow
def test_drawing_changes_nobodys_settings():
    import matplotlib

    before = dict(matplotlib.rcParams)
    pictures.__wrapped__()
    assert dict(matplotlib.rcParams) == before


ODD = [
    {"text.usetex": True},
    {"font.family": ["no such font"], "font.size": 40},
    {"axes.facecolor": "black", "figure.facecolor": "red", "savefig.dpi": 7},
    {"axes.prop_cycle": "cycler('color', ['pink'])", "lines.linewidth": 9, "image.cmap": "jet"},
    {"axes.titlesize": "xx-large", "xtick.labelsize": 30, "figure.constrained_layout.use": False},
]


@pytest.mark.slow
@pytest.mark.parametrize("settings", ODD, ids=lambda settings: next(iter(settings)))
def test_a_readers_settings_change_no_figure(settings):
    import matplotlib

    def drawn():
        counts = torch.tensor([[8, 2, 0], [0, 9, 1], [0, 0, 10]])
        return figures.confusion_matrix(counts, NAMES).png, figures.comparison(
            CLEAR, ALONE.label
        ).png

    plain = drawn()
    with matplotlib.rc_context(settings):
        assert drawn() == plain


def test_a_figure_of_a_notebooks_own_needs_no_latex():
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"text.usetex": True}):
        figure = Figure()
        figure.subplots().set(title="50 % of $x_1$", xlabel="a_b & c")
        assert figures.Picture(figure, "a title").png


# Widgets


def rest_of(live):
    """The words of the picture that is shown without scripts."""
    return live._repr_mimebundle_()[0]["text/plain"]


def test_a_slider_rests_on_a_picture_of_the_same_numbers():
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    logits = torch.tensor([[0.0, 0.0, 2.0], [3.0, 0.0, 0.0]])
    live = interactive.temperature_explorer(images, torch.tensor([2, 0]), logits, NAMES, 4.0)
    assert "at T = 4, class c has probability" in rest_of(live)
    assert "at T = 1, class c has probability 0.787" in rest_of(live)
    live = interactive.temperature_explorer(images[1:], torch.tensor([0]), logits[1:], NAMES, 4.0)
    # e³ / (e³ + 2) = 0.9094
    assert "at T = 1, class a has probability 0.909" in rest_of(live)


def test_the_loss_explorer_rests_where_it_is_told():
    student, teacher = torch.zeros(3), torch.tensor([0.0, 0.0, 2.0])
    # Labels only, even student: loss ln 3, push on the label's logit 1 − 1/3.
    live = interactive.loss_explorer(student, teacher, 2, NAMES, 4.0, 0.0)
    assert "loss 1.099 nats; logit c is pushed up most, by 0.667" in rest_of(live)
    # Teacher only at T = 1: push p_t − p_s = 0.787 − 0.333.
    live = interactive.loss_explorer(student, teacher, 2, NAMES, 1.0, 1.0)
    assert "logit c is pushed up most, by 0.454" in rest_of(live)


def test_the_subclass_explorer_rests_on_its_first_image():
    images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
    logits = torch.tensor([[1.0, 1.0, 1.0, 3.0], [3.0, 1.0, 1.0, 1.0]]).log()
    live = interactive.subclass_explorer(
        images, torch.tensor([1, 0]), logits, ["A", "B"], ["a b", "an a"], 1.0
    )
    assert "A 0.333, B 0.667" in rest_of(live) and "is no. 2 of B with" in rest_of(live)


@pytest.mark.slow
def test_the_sweep_explorer_has_every_cell_that_was_kept():
    live = interactive.sweep_explorer(tables.REFERENCE / "subclass_sweep.json")
    record = json.loads((tables.REFERENCE / "subclass_sweep.json").read_text())
    data = live._repr_mimebundle_()[0][COMPONENT]
    assert len({cell["says"] for cell in data["cells"]}) >= 18
    assert len(data["cells"]) == len(record["cells"])
    assert [len(data[name]) for name in ("losses", "sizes", "weights")] == [2, 3, 4]
    for shown, cell in zip(data["cells"], record["cells"], strict=True):
        alive = ", ".join(str(t["live"]) for t in cell["teachers"])
        known = f"live subclasses per seed: {alive} of {len(cell['teachers'][0]['counts'])}"
        assert known in shown["says"]
    (resting,) = (
        cell for cell in data["cells"]
        if all(part in rest_of(live) for part in cell["says"].rstrip(".").split("; "))
    )  # fmt: skip
    assert (resting["subclasses"], resting["weight"]) == (data["sizes"][1], data["weights"][2])


def test_the_calibration_explorer_rests_at_its_temperature():
    logits, labels = torch.randn(50, 3), torch.randint(3, (50,))
    assert "T = 4.00 has" in rest_of(interactive.calibration_explorer(logits, labels, 4.0))


@pytest.mark.parametrize("live", [True, False])
def test_a_component_is_in_a_frame_or_in_the_page(live, monkeypatch):
    """Its data travel once; where no kernel runs, only the picture is left."""
    for module in (widgets, picture):
        monkeypatch.setattr(module, "live_kernel", lambda: live)
    explorer = interactive.loss_explorer(torch.zeros(3), torch.ones(3), 2, NAMES, 4.0, 0.9)
    data, _ = explorer._repr_mimebundle_()
    framed = explorer.box.value.startswith("<iframe title=") and "pushed" not in explorer.box.value
    assert framed == live == (COMPONENT not in data)
    assert "pushed up most" in data["text/plain"]


def test_every_widget_carries_a_fallback():
    logits, labels = torch.randn(50, 3), torch.randint(3, (50,))
    data, metadata = interactive.calibration_explorer(logits, labels)._repr_mimebundle_()
    assert widgets.WIDGET_VIEW in data and data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"]
    data, _ = interactive.Guess("How many?", 0, 10, 4)._repr_mimebundle_()
    assert widgets.WIDGET_VIEW in data and "How many?" in data["text/markdown"]


def test_a_guess_has_a_value():
    guess = interactive.Guess("How many?", 0, 10, 4)
    guess.box.children[-1].value = 7
    assert guess.value == 7


def test_names_from_data_are_escaped():
    image = torch.zeros(1, 28, 28, dtype=torch.uint8)
    bad = figures.softened(image, torch.zeros(2), ['"><script>', "b"], [1.0], 0)
    assert "<script>" not in image_tag(bad)


# Progress


def updates(total=1, epochs=2):
    for number in range(1, total + 1):
        for epoch in range(1, epochs + 1):
            yield Update(f"method {number}", 0, number, total, history(epoch), epochs)


def test_headless_one_run_prints_a_line_an_epoch(monkeypatch, capsys):
    monkeypatch.setenv(HEADLESS, "1")
    progress = Progress()
    for update in updates():
        progress(update)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "epoch 2/2" in lines[1] and "validation accuracy 60.00 %" in lines[1]


def test_headless_many_runs_print_a_line_a_run(monkeypatch, capsys):
    monkeypatch.setenv(HEADLESS, "1")
    progress = Progress()
    for update in updates(total=3):
        progress(update)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]


def test_a_stopped_run_says_so(monkeypatch, capsys):
    monkeypatch.setenv(HEADLESS, "1")
    for epochs in (0, 2):
        stopped = history(epochs)
        stopped.interrupted = True
        Progress()(Update("teacher", 0, 1, 1, stopped, 5))
        assert f"teacher, seed 0: stopped after {epochs} epochs" in capsys.readouterr().err


@pytest.mark.parametrize("epochs", [0, 2])
def test_live_too_it_says_so(monkeypatch, epochs):
    monkeypatch.delenv(HEADLESS, raising=False)
    titles = []
    draw = figures.training_curves
    monkeypatch.setattr(
        "kdnb.course.interactive.progress.training_curves",
        lambda histories, n, title: titles.append(title) or draw(histories, n, title),
    )
    stopped = history(epochs)
    stopped.interrupted = True
    Progress()(Update("teacher", 0, 1, 1, stopped, 5))
    kept = "weights stored; run again to continue"
    assert titles == [f"teacher, seed 0: stopped after {epochs} epochs, {kept}"]


class Handle:
    """Notes what a display was given, in place of IPython's."""

    def __init__(self):
        self.shown = []
        Handle.last = self

    def display(self, thing):
        self.shown.append(thing)

    update = display


@pytest.fixture
def live(monkeypatch):
    """As in a kernel with a reader before it; cells are counted by ``live.execution_count``."""

    class Shell:
        execution_count = 1
        kernel = type("Kernel", (), {"_supports_kernel_subshells": True})

    shell = Shell()
    monkeypatch.delenv(HEADLESS, raising=False)
    monkeypatch.setattr("kdnb.course.report.protocol.get_ipython", lambda: shell)
    monkeypatch.setattr("kdnb.course.interactive.progress.get_ipython", lambda: shell)
    monkeypatch.setattr("kdnb.course.interactive.progress.DisplayHandle", Handle)
    return shell


def test_a_click_on_stop_is_honoured_at_the_next_step_and_leaves_one_picture(live):
    progress = Progress()
    progress(Update("teacher", 0, 1, 1, History(), 5))
    (panel,) = Handle.last.shown
    assert panel.button in panel.box.children
    progress.step(16)
    progress(Update("teacher", 0, 1, 1, history(1), 5))
    progress.step(16)
    panel.button.click()
    with pytest.raises(KeyboardInterrupt):
        progress.step(16)
    stopped = history(1)
    stopped.interrupted = True
    progress(Update("teacher", 0, 1, 1, stopped, 5))
    data, _ = Handle.last.shown[-1]._repr_mimebundle_()
    assert set(data) == {"text/html", "text/plain"}, "no widget stays, and PNG only once"
    assert 'alt="Training curves over 5 epochs' in data["text/html"]
    assert panel.button.comm is None, "closed"
    progress.step(16)  # and the click is forgotten


def test_what_comes_from_the_store_has_no_button(live):
    progress = Progress()
    for number in (1, 2):
        progress(Update("teacher", 0, number, 2, history(5), 5, loaded=True))
    (picture,) = Handle.last.shown
    assert isinstance(picture, figures.Picture)


def test_where_clicks_cannot_arrive_there_is_no_button(live):
    live.kernel._supports_kernel_subshells = False
    Progress()(Update("teacher", 0, 1, 1, History(), 5))
    (panel,) = Handle.last.shown
    assert panel.button not in panel.box.children


def test_a_cell_that_is_run_again_shows_itself_anew(live):
    progress = Progress()
    progress(Update("teacher", 0, 1, 1, history(5), 5))
    first = Handle.last
    live.execution_count = 2
    progress(Update("teacher", 0, 1, 1, history(2), 5, continued=2))
    assert Handle.last is not first and len(first.shown) == 1
    assert "continued at epoch 3" in Handle.last.shown[0].status.value


def test_pace_and_time_left_count_what_was_trained_here(live, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("kdnb.course.interactive.progress.time.monotonic", lambda: clock[0])
    progress = Progress()
    progress(Update("teacher", 0, 1, 1, history(4), 10, continued=4))
    (panel,) = Handle.last.shown
    for _ in range(10):
        clock[0] += 1
        progress.step(50)
    assert ", 50 images/s" in panel.status.value and "left" not in panel.status.value
    progress(Update("teacher", 0, 1, 1, history(5), 10, continued=4))
    clock[0] += 1
    progress.step(50)
    # 1.1 epochs in 11 s; 4.9 are left.
    assert "epoch 6 of 10" in panel.status.value and "about 49 s left" in panel.status.value


@pytest.mark.slow
def test_live_it_is_one_display_that_is_redrawn(monkeypatch):
    monkeypatch.delenv(HEADLESS, raising=False)
    monkeypatch.setattr("kdnb.course.interactive.progress.REDRAW_SECONDS", 0)
    shown = []

    class Handle:
        def display(self, picture):
            shown.append(("display", picture.alt))

        def update(self, picture):
            shown.append(("update", picture.alt))

    monkeypatch.setattr("kdnb.course.interactive.progress.DisplayHandle", Handle)
    progress = Progress()
    for update in updates(total=2, epochs=3):
        progress(update)
    assert [kind for kind, _ in shown] == ["display"] + ["update"] * 5


def test_cards_say_where_numbers_come_from(tiny_task, store):
    lab = Experiment(tiny_task, store=store, device=torch.device("cpu"))
    result = lab.compare([ALONE, conventional(4.0, 0.9)], [0, 1])
    runs = [run for runs in result.runs.values() for run in runs]
    card = words.provenance_card(lab, runs + runs[:2]).data
    assert "| trained | 4 model(s) in" in card
    assert lab.dataset.fingerprint[:16] in card and "| seeds | 0, 1 |" in card
    assert torch.__version__ in card or "torch 2" in card
    card = words.task_card(lab).data
    assert "96 training, 40 validation and 40 test images" in card


# The terminal


def test_time_left_scales_what_is_expected_by_this_machines_pace(monkeypatch):
    from kdnb.course.report import terminal
    from kdnb.course.report.execution import CellDone

    clock = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock[0])
    cells = [("00_a", ["x", "y"]), ("01_b", ["x"])]  # notebooks use the same ids
    expected = {"00_a/x": 10.0, "00_a/y": 20.0, "01_b/x": 30.0}
    progress = terminal.ReportProgress(cells, expected)
    assert progress.time_left() == 60
    progress.start_notebook("00_a")
    clock[0] += 5
    assert progress.time_left() == 55
    clock[0] += 15  # x took 20 s where 10 were expected: twice as slow
    progress.cell_done(CellDone("00_a", "x", 1, 2))
    assert progress.time_left() == 100
    clock[0] += 500  # far beyond what was expected of y: nothing of it is left
    assert progress.time_left() == 60
    progress.cell_done(CellDone("00_a", "y", 2, 2))
    progress.start_notebook("01_b")
    progress.cell_done(CellDone("01_b", "x", 1, 1))
    assert progress.time_left() == 0
    assert progress.seconds == {"00_a/x": 20.0, "00_a/y": 500.0, "01_b/x": 0.0}


def test_the_terminal_names_notebook_cell_and_time(capsys):
    from kdnb.course.report.execution import CellDone
    from kdnb.course.report.terminal import ReportProgress

    with ReportProgress([("00_a", ["x", "y"])], {}) as progress:
        progress.start_notebook("00_a")
        progress.cell_done(CellDone("00_a", "x", 1, 2))
    shown = capsys.readouterr().err
    assert "[1/1] 00_a" in shown and "cell 2/2" in shown and "left" in shown


@pytest.mark.parametrize("cells", [1, 2, 5, 23])
def test_the_bar_is_full_at_the_last_cell(cells, capsys):
    """The cell that sets the parameters comes to those that were counted."""
    from kdnb.course.report.execution import CellDone
    from kdnb.course.report.terminal import ReportProgress

    ids = [f"c{i}" for i in range(cells)]
    with ReportProgress([("00_a", ids)], {}) as progress:
        progress.start_notebook("00_a")
        for number, cell in enumerate(["injected", *ids], start=1):
            progress.cell_done(CellDone("00_a", cell, number, cells + 1))
            last = capsys.readouterr().err.split("\r")[-1]
            filled = round(16 * number / (cells + 1))
            bar = last.partition("|")[2].partition("|")[0]
            # A last eighth of a letter is drawn as one of its own.
            assert len(bar) == 16 and filled - 1 <= len(bar.rstrip(" ")) <= filled + 1
        assert bar.strip(" ") == bar


def test_of_reports_side_by_side_there_is_a_line_for_each_notebook(capsys):
    from kdnb.course.report.terminal import ReportProgress

    with ReportProgress([("00_a", ["x"]), ("01_b", ["x"])], {}, "mnist-small") as progress:
        for notebook in ("00_a", "01_b"):
            progress.notebook_done(notebook, {f"{notebook}/x": 1.5})
    assert progress.seconds == {"00_a/x": 1.5, "01_b/x": 1.5} and progress.time_left() == 0
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("mnist-small [1/2] 00_a done, ") and "left" in first
    assert second.startswith("mnist-small [2/2] 01_b done, ")
