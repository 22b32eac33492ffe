"""A bank of answers to the exercises, as readers write them: right in other ways, and wrong.

`attempts` of an exercise are (what the checker must say, the answer). Wrong ones must get exactly
the name that stands beside them.
"""

import copy
import math
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode

from kdnb.course.exercises import ALL
from kdnb.course.exercises.exercise import Question
from kdnb.evaluation import similarity
from kdnb.evaluation.cost import Cost, cost
from kdnb.training.predict import evaluating

FUNCTIONS = [exercise for exercise in ALL if not isinstance(exercise, Question)]

CORRECT = "correct"


def kd(student="log_softmax(z / t, 1)", teacher="log_softmax(v / t, 1)", loss=None, hard="z"):
    """A distillation loss from the sources of its parts."""
    loss = loss or "w * t**2 * kl_div(s, q, reduction='batchmean', log_target=True) + (1 - w) * h"
    source = (
        f"def answer(z, y, v, t, w):\n"
        f"    v = v.detach()\n    s, q = {student}, {teacher}\n"
        f"    h = cross_entropy({hard}, y)\n    return {loss}\n"
    )
    names = {**vars(F), "torch": torch}
    exec(source, names)
    return names["answer"]


def kl(options="reduction='batchmean'", factor="t**2 * ", weight="w", hard="h"):
    return f"{weight} * {factor}kl_div(s, q, log_target=True, {options}) + (1 - {weight}) * {hard}"


# softened_softmax


def softened_in_a_loop(logits, temperature):
    rows = []
    for row in logits.tolist():
        scaled = [x / temperature for x in row]
        powers = [math.exp(x - max(scaled)) for x in scaled]
        rows.append([p / sum(powers) for p in powers])
    return torch.tensor(rows)


def softened_by_logsumexp(z, t):
    return (z / t - torch.logsumexp(z / t, 1, True)).exp()


def softened_in_numpy(z, t):
    z = z.numpy() / t
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def softened_naively(z, t):
    e = torch.exp(z / t)
    return e / e.sum(1, keepdim=True)


def softened_by_one_maximum(z, t):
    e = torch.exp(z / t - (z / t).max())
    return e / e.sum(1, keepdim=True)


def power_of_the_softmax(z, t):
    p = F.softmax(z, 1) ** t
    return p / p.sum(1, keepdim=True)


def divided_and_normalised_again(z, t):
    p = F.softmax(z, 1) / t
    return p / p.sum(1, keepdim=True)


SOFTENED = [
    (CORRECT, softened_in_a_loop),
    (CORRECT, softened_by_logsumexp),
    (CORRECT, softened_in_numpy),
    (CORRECT, lambda z, t: F.softmax(z.double() * (1 / t), -1)),
    ("multiplied by T", power_of_the_softmax),
    ("multiplied by T", lambda z, t: F.softmax(z * t, 1)),
    ("temperature without effect", divided_and_normalised_again),
    ("temperature after the softmax", lambda z, t: torch.softmax(z, 1) / t),
    ("softmax twice", lambda z, t: torch.softmax(torch.softmax(z, 1) / t, 1)),
    ("softmax twice", lambda z, t: torch.softmax(torch.softmax(z / t, 1), 1)),
    ("normalised over the batch", lambda z, t: (z / t).softmax(0)),
    ("one sum for all images", lambda z, t: (z / t).flatten().softmax(0).view(z.shape)),
    ("not normalised", lambda z, t: np.exp(z.numpy() / t)),
    ("logarithms of probabilities", lambda z, t: torch.log(F.softmax(z / t, 1))),
    ("overflow", softened_naively),
    ("one maximum for all images", softened_by_one_maximum),
]

# soft_target_bits


def bits_in_a_loop(p):
    return [-sum(x * math.log2(x) for x in row if x > 0) for row in p.tolist()]


def bits_as_distribution(p):
    return torch.distributions.Categorical(probs=p).entropy() / math.log(2)


def bits_by_replacement(p):
    return -(p * torch.log2(torch.where(p > 0, p, torch.ones_like(p)))).sum(-1)


BITS = [
    (CORRECT, bits_in_a_loop),
    (CORRECT, bits_as_distribution),
    (CORRECT, bits_by_replacement),
    (CORRECT, lambda p: torch.special.entr(p).sum(1) / math.log(2)),
    ("nats instead of bits", lambda p: -(p * p.log()).sum(1)),
    ("decimal logarithm", lambda p: -(p * p.log10()).sum(1)),
    ("sign forgotten", lambda p: torch.xlogy(p, p).sum(1) / math.log(2)),
    ("mean over the classes", lambda p: -(p * p.log2()).mean(1)),
    ("summed over the images", lambda p: -(p * p.log2()).sum(0)),
    ("one number for all images", lambda p: -(p * p.log2()).sum()),
    ("one number for all images", lambda p: -(p * p.log2()).sum(1).mean()),
    ("only the largest class counts", lambda p: -torch.log2(p.amax(1))),
    ("not weighted", lambda p: -torch.log2(p).sum(1)),
    ("softmax again", lambda p: -(p.softmax(1) * p.log_softmax(1)).sum(1) / math.log(2)),
    ("0 · log 0", lambda p: -(p * p.log2()).sum(1)),
]

# kd_loss


def kd_written_out(z, labels, teacher, temperature, soft_weight):
    teacher = teacher.detach()
    log_pt = (teacher / temperature).log_softmax(1)
    log_ps = (z / temperature).log_softmax(1)
    soft = torch.einsum("nc,nc->", log_pt.exp(), log_pt - log_ps) / len(z)
    hard = -z.log_softmax(1)[torch.arange(len(z)), labels].mean()
    return soft_weight * temperature**2 * soft + (1 - soft_weight) * hard


def kd_in_loops(z, y, v, t, w):
    soft = hard = 0
    with torch.no_grad():
        targets = [F.log_softmax(row / t, 0) for row in v]
    for row, label, target in zip(z, y, targets, strict=True):
        said = F.log_softmax(row / t, 0)
        soft = soft + sum(q.exp() * (q - s) for q, s in zip(target, said, strict=True))
        hard = hard - F.log_softmax(row, 0)[label]
    return (w * t * t * soft + (1 - w) * hard) / len(z)


def kd_by_the_element_mean(z, y, v, t, w):
    """`mean` done right: multiplied by the number of classes again."""
    divergence = F.kl_div(
        F.log_softmax(z / t, 1), F.log_softmax(v.detach() / t, 1), reduction="mean", log_target=True
    )
    return w * t**2 * divergence * z.shape[1] + (1 - w) * F.cross_entropy(z, y)


def kd_by_probabilities(z, y, v, t, w):
    """kl_div of probabilities takes 0 · log 0 for 0."""
    divergence = F.kl_div(F.log_softmax(z / t, 1), F.softmax(v.detach() / t, 1), reduction="sum")
    return torch.lerp(F.cross_entropy(z, y), t**2 * divergence / len(z), w)


def kd_that_trains_the_teacher(z, y, v, t, w):
    soft = F.kl_div(F.log_softmax(z / t, 1), F.softmax(v / t, 1), reduction="batchmean")
    return w * t**2 * soft + (1 - w) * F.cross_entropy(z, y)


def js(factor):
    """Both divergences from the mean distribution, summed."""
    m = "torch.logaddexp(s, q) - torch.tensor(2.0).log()"
    both = " + ".join(f"kl_div({m}, {one}, log_target=True, reduction='batchmean')" for one in "sq")
    return f"w * {factor}({both}) + (1 - w) * h"


def kd_by_jensen_shannon(z, y, v, t, w):
    p, q = F.softmax(z / t, 1), F.softmax(v.detach() / t, 1)
    m = (p + q) / 2
    js = sum(F.kl_div(m.log(), one, reduction="batchmean") for one in (p, q)) / 2
    return w * t**2 * js + (1 - w) * F.cross_entropy(z, y)


KD = [
    (CORRECT, kd_written_out),
    (CORRECT, kd_in_loops),
    (CORRECT, kd_by_the_element_mean),
    (CORRECT, kd_by_probabilities),
    ("T² forgotten", kd(loss=kl(factor=""))),
    ("T instead of T²", kd(loss=kl(factor="t * "))),
    ("T² on the hard term too", kd(loss=kl(hard="t**2 * h"))),
    ("mean instead of batchmean", kd(loss=kl("reduction='mean'"))),
    ("sum instead of mean", kd(loss=kl("reduction='sum'"))),
    ("softmax twice in the soft term", kd("log_softmax(softmax(z / t, 1), 1)")),
    (
        "softmax twice in the soft term",
        kd("log_softmax(softmax(z / t, 1), 1)", "log_softmax(softmax(v / t, 1), 1)"),
    ),
    ("softmax twice in the hard term", kd(hard="softmax(z, 1)")),
    ("probabilities where logarithms belong", kd("softmax(z / t, 1)")),
    ("KL reversed", kd("log_softmax(v / t, 1)", "log_softmax(z / t, 1)")),
    ("Jensen-Shannon instead of KL", kd_by_jensen_shannon),
    ("Jensen-Shannon instead of KL", kd(loss=js("t**2 * "))),
    ("Jensen-Shannon instead of KL", kd(loss=js("t**2 / 2 * "))),
    ("Jensen-Shannon instead of KL", kd(loss=js("1 / 2 * "))),
    ("mean squared error of logits", kd(loss="w * mse_loss(z, v) + (1 - w) * h")),
    ("mean squared error of logits", kd(loss="w * t**2 * mse_loss(z / t, v / t) + (1 - w) * h")),
    ("mean squared error of logits", kd(loss="w * mse_loss(z / t, v / t) + (1 - w) * h")),
    ("mean squared error of logits", kd(loss="w * t**2 * mse_loss(z, v) + (1 - w) * h")),
    ("mean squared error of logits", kd(loss="w * .5 * mse_loss(z, v) + (1 - w) * h")),
    (
        "mean squared error of logits",
        kd(loss="w * ((z - v) ** 2).sum(1).mean() + (1 - w) * h"),
    ),
    ("logits multiplied by T", kd("log_softmax(z * t, 1)", "log_softmax(v * t, 1)")),
    (
        "logits multiplied by T",
        kd("log_softmax(z * t, 1)", "log_softmax(v * t, 1)", loss=kl(factor="")),
    ),
    (
        "cross-entropy instead of the divergence",
        kd(loss="w * t**2 * -(q.exp() * s).sum(1).mean() + (1 - w) * h"),
    ),
    ("temperature on the student's side only", kd(teacher="log_softmax(v, 1)")),
    ("temperature on the teacher's side only", kd("log_softmax(z, 1)")),
    ("soft_weight on the wrong term", kd(loss=kl(weight="(1 - w)"))),
    ("hard term softened too", kd(hard="z / t")),
    ("hard loss on the teacher's logits", kd(hard="v")),
    ("no weights", kd(loss="t**2 * kl_div(s, q, reduction='batchmean', log_target=True) + h")),
    ("normalised over the batch", kd("log_softmax(z / t, 0)", "log_softmax(v / t, 0)")),
    (
        "0 · log 0",
        kd(
            "softmax(z / t, 1)", "softmax(v / t, 1)",
            "w * t**2 * (q * (q.log() - s.log())).sum(1).mean() + (1 - w) * h",
        ),
    ),
    ("no gradient for the student", lambda *given: kd_written_out(*given).item()),
    ("no gradient for the student", lambda z, *rest: kd_written_out(z.detach(), *rest)),
    ("teacher's gradient not stopped", kd_that_trains_the_teacher),
]  # fmt: skip

# why_t2


def gradient_by_autograd(z, v, t):
    z = z.detach().requires_grad_()
    F.kl_div(F.log_softmax(z / t, 1), F.softmax(v / t, 1), reduction="batchmean").backward()
    return z.grad


def gradient_by_rows(z, v, t):
    return (
        torch.stack([((a / t).softmax(0) - (b / t).softmax(0)) for a, b in zip(z, v, strict=True)])
        / t
        / len(z)
    )


def difference(z, v, t):
    return F.softmax(z / t, 1) - F.softmax(v / t, 1)


def limit(z, v, t):
    centred = (z - z.mean(1, keepdim=True)) - (v - v.mean(1, keepdim=True))
    return centred / (len(z) * z.shape[1] * t**2)


WHY_T2 = [
    (CORRECT, gradient_by_autograd),
    (CORRECT, gradient_by_rows),
    ("inner derivative forgotten", lambda z, v, t: difference(z, v, t) / len(z)),
    ("T² is in it already", lambda z, v, t: t * difference(z, v, t) / len(z)),
    ("mean over the images forgotten", lambda z, v, t: difference(z, v, t) / t),
    ("mean over the classes too", lambda z, v, t: difference(z, v, t) / t / z.numel()),
    ("the wrong sign", lambda z, v, t: difference(v, z, t) / t / len(z)),
    ("not softened", lambda z, v, t: difference(z, v, 1) / t / len(z)),
    ("the limit of large T for every T", limit),
    (
        "teacher's labels instead of its probabilities",
        lambda z, v, t: (F.softmax(z / t, 1) - torch.eye(z.shape[1])[v.argmax(1)]) / t / len(z),
    ),
]

# choose_temperature


def chosen_in_a_loop(temperatures, validation, test):
    best = max(
        zip(temperatures, validation.tolist(), test.tolist(), strict=True), key=lambda r: sum(r[1])
    )
    return [best[0], sum(best[2]) / len(best[2])]


def chosen_by(scores, reported):
    def answer(temperatures, validation, test):
        names = {"val": validation, "test": test}
        row = eval(scores, names).argmax().item()
        return temperatures[row], eval(reported, names)[row].item()

    return answer


def row_number(temperatures, validation, test):
    row = validation.mean(1).argmax()
    return row, test[row].mean()


CHOICE = [
    (CORRECT, chosen_in_a_loop),
    (CORRECT, lambda t, v, s: torch.tensor(chosen_in_a_loop(t, v, s))),
    ("chosen on the test split", chosen_by("test.mean(1)", "test.mean(1)")),
    ("the luckiest seed decides", chosen_by("val.amax(1)", "test.mean(1)")),
    ("validation accuracy reported", chosen_by("val.mean(1)", "val.mean(1)")),
    ("the best seed reported", chosen_by("val.mean(1)", "test.amax(1)")),
    ("both splits decide", chosen_by("val.mean(1) + test.mean(1)", "test.mean(1)")),
    ("the row instead of the temperature", row_number),
    ("the worst instead of the best", chosen_by("-val.mean(1)", "test.mean(1)")),
]

# real_gain


def gain_by_scipy(distilled, alone):
    gains = np.subtract(distilled, alone)
    return stats.t.interval(0.95, len(gains) - 1, gains.mean(), stats.sem(gains))


def gain_by_paired_test(distilled, alone):
    interval = stats.ttest_rel(distilled, alone).confidence_interval(0.95)
    return torch.tensor([interval.low, interval.high])


def gain_unpaired(distilled, alone):
    return tuple(stats.ttest_ind(distilled, alone).confidence_interval(0.95))


def gain_with(quantile, ddof=1, root=True):
    def answer(distilled, alone):
        gains = np.array(distilled) - np.array(alone)
        n = len(gains)
        half = quantile(n) * gains.std(ddof=ddof) / (np.sqrt(n) if root else 1)
        return gains.mean() - half, gains.mean() + half

    return answer


def students_t(n):
    return stats.t.ppf(0.975, n - 1)


def seeds_apart(distilled, alone):
    gains = [a - b for a, b in zip(distilled, alone, strict=True)]
    return min(gains), max(gains)


GAIN = [
    (CORRECT, gain_by_scipy),
    (CORRECT, gain_by_paired_test),
    (CORRECT, gain_with(students_t)),
    ("not paired", gain_unpaired),
    ("standard deviation instead of standard error", gain_with(students_t, root=False)),
    ("normal instead of t", gain_with(lambda n: 1.96)),
    ("normal instead of t", gain_with(lambda n: stats.norm.ppf(0.975))),
    ("divided by n instead of n − 1", gain_with(students_t, ddof=0)),
    ("one-sided quantile", gain_with(lambda n: stats.t.ppf(0.95, n - 1))),
    ("n degrees of freedom", gain_with(lambda n: stats.t.ppf(0.975, n))),
    ("the wrong way round", lambda a, b: gain_by_scipy(b, a)),
    ("the range of the seeds", seeds_apart),
    ("best seed against best seed", lambda a, b: [max(a) - max(b)] * 2),
    ("only the mean", lambda a, b: np.mean(a) - np.mean(b)),
]

# second_opinion. With logits 0, -ln 16, -ln 64, -ln 64 the second share reaches a tenth where
# r = 16^(-1/T) solves 0.9 r - 0.2 r^1.5 = 0.1, at T = 1.310; the third, where x = 64^(-1/T) solves
# 0.8 x - 0.1 x^(2/3) = 0.1, at T = 2.286; all three, where r + 2 r^1.5 = 1/9, at T = 1.055.

FACTS = {"second_opinion": (-torch.tensor([1.0, 16.0, 64.0, 64.0]).log(),)}
OPINION = [
    (CORRECT, 1.31),
    (CORRECT, 2 ** (4 / 8)),  # the next step of the slider
    (CORRECT, np.float32(1.310)),
    ("the third class", 2.29),
    ("all wrong classes together", 1.06),
    ("the logarithm of T", 0.39),
]

# frozen_logits


def in_train_mode(teacher, batches):
    with torch.no_grad():
        return in_place([(rows, teacher(images)) for rows, images in batches])


def in_place(parts):
    """Rows of logits put where their indices say."""
    out = torch.zeros(sum(len(rows) for rows, _ in parts), parts[0][1].shape[1])
    for rows, logits in parts:
        out[rows] = logits
    return out


def of_a_copy(teacher, batches):
    still = copy.deepcopy(teacher).eval()
    found = {}
    with torch.inference_mode():
        for rows, images in batches:
            found |= dict(zip(rows.tolist(), still(images).tolist(), strict=True))
    return [found[i] for i in range(len(found))]


def by_functional_call(teacher, batches):
    with evaluating(teacher):
        state = dict(teacher.state_dict())
        parts = [
            (i, torch.func.functional_call(teacher, state, (images,))) for i, images in batches
        ]
    return in_place(parts)


def with_hooks_for_modes(teacher, batches):
    """Requires no gradient of any parameter, and gives that back as well."""
    modes = {m: m.training for m in teacher.modules()}
    needing = {p: p.requires_grad for p in teacher.parameters()}
    teacher.requires_grad_(False).eval()
    out = in_place([(i, teacher(images)) for i, images in batches])
    for module, mode in modes.items():
        module.train(mode)
    for parameter, needed in needing.items():
        parameter.requires_grad_(needed)
    return out


def frozen(before="", after="", grad="torch.no_grad()", rows="[(i, teacher(x)) for i, x in b]"):
    """Answers from the sources of what is done around them."""
    source = (
        f"def answer(teacher, b):\n    {before or 'pass'}\n    with {grad}:\n"
        f"        out = in_place({rows})\n    {after or 'pass'}\n    return out\n"
    )
    names = {"torch": torch, "in_place": in_place, "nullcontext": nullcontext}
    exec(source, names)
    return names["answer"]


MODES = "modes = [(m, m.training) for m in teacher.modules()]; teacher.eval()"
BACK = "[setattr(m, 'training', mode) for m, mode in modes]"


def layers_still(kind):
    def answer(teacher, batches):
        for layer in teacher.modules():
            if isinstance(layer, kind):
                layer.eval()
        return in_train_mode(teacher, batches)

    return answer


def as_they_come(teacher, batches):
    with evaluating(teacher):
        return torch.cat([teacher(images) for _, images in batches])


def nothing_at_all(teacher, batches):
    return torch.cat([teacher(images) for _, images in batches])


def shuffled_again(teacher, batches):
    return as_they_come(teacher, batches)[torch.cat([rows for rows, _ in batches])]


def off_for_good(teacher, batches):
    torch.set_grad_enabled(False)
    with evaluating(teacher):
        return in_place([(i, teacher(images)) for i, images in batches])


FROZEN = [
    (CORRECT, of_a_copy),
    (CORRECT, by_functional_call),
    (CORRECT, with_hooks_for_modes),
    (CORRECT, frozen(MODES, BACK)),
    ("left in train mode", in_train_mode),
    ("left in train mode", nothing_at_all),
    ("dropout still on", layers_still(torch.nn.modules.batchnorm._BatchNorm)),
    ("batch-norm statistics drift", layers_still(torch.nn.Dropout)),
    ("in the order of the loader", as_they_come),
    ("the order applied instead of undone", shuffled_again),
    ("probabilities instead of logits", lambda v, b: frozen(MODES, BACK)(v, b).softmax(1)),
    ("gradients switched off for good", off_for_good),
    ("gradients recorded", frozen(MODES, BACK, "nullcontext()")),
    (
        "detached too late",
        frozen(MODES, BACK, "nullcontext()", "[(i, teacher(x).detach()) for i, x in b]"),
    ),
    ("eval never undone", frozen("teacher.eval()")),
    ("back to train mode, whatever it was", frozen("teacher.eval()", "teacher.train()")),
    (
        "one mode for all layers",
        frozen("was = teacher.training; teacher.eval()", "teacher.train(was)"),
    ),
    ("trainable is not what it was", frozen(f"{MODES}; teacher.requires_grad_(False)", BACK)),
    (
        "trainable is not what it was",
        frozen(
            f"{MODES}; teacher.requires_grad_(False)",
            f"{BACK}; teacher.requires_grad_(True)",
            "nullcontext()",
        ),
    ),
]

# confidence_gap: a hundred images in two bins at T = 4, one too modest and one too bold.


def logits_with_confidence(confidence, temperature):
    """Of two classes, the first with this probability at this temperature."""
    return [temperature * math.log(confidence / (1 - confidence)), 0.0]


FACTS |= {
    "confidence_gap": (
        torch.tensor([logits_with_confidence(c, 4.0) for c in (0.65,) * 60 + (0.85,) * 40]),
        torch.tensor([0] * 57 + [1] * 3 + [0] * 30 + [1] * 10),  # right: 95 % and 75 %
        4.0,
    )
}
GAP = [
    # 60 % of the images are 30 points too modest, 40 % ten points too bold.
    (CORRECT, -14.0),
    (CORRECT, np.float64(0.73 * 100 - 87)),
    ("the wrong sign", 14.0),
    ("distance without direction", 22.0),
    # At T = 1 confidence is c⁴ / (c⁴ + (1 − c)⁴), 0.9225 and 0.9990.
    ("at T = 1", 100 * (0.6 * 0.9225 + 0.4 * 0.9990 - 0.87)),
    ("the worst bin", -30.0),
    ("every bin the same weight", -10.0),
    ("the confidence alone", 73.0),
    ("the accuracy alone", 87.0),
    ("a share instead of points", -0.14),
]

# class_logits


def columns(z, c):
    s = z.shape[1] // c
    return [z[:, k * s : (k + 1) * s] for k in range(c)]


def class_logits_in_a_loop(z, c):
    return torch.stack([part.logsumexp(1) for part in columns(z, c)], dim=1)


def class_logits_by_logaddexp(z, c):
    joined = []
    for part in columns(z, c):
        total = part[:, 0]
        for k in range(1, part.shape[1]):
            total = torch.logaddexp(total, part[:, k])
        joined.append(total)
    return torch.stack(joined, 1)


def class_logits_by_hand(z, c):
    by_class = z.reshape(len(z), c, -1)
    top = by_class.max(2, keepdim=True).values
    return top.squeeze(2) + torch.einsum("ncs->nc", (by_class - top).exp()).log()


def of_each(part_of):
    return lambda z, c: torch.stack([part_of(part) for part in columns(z, c)], 1)


HEAD = [
    (CORRECT, class_logits_in_a_loop),
    (CORRECT, class_logits_by_logaddexp),
    (CORRECT, class_logits_by_hand),
    ("logits summed instead of logsumexp", of_each(lambda part: part.sum(1))),
    ("mean of the logits", of_each(lambda part: part.mean(1))),
    ("only the largest subclass", of_each(lambda part: part.max(1).values)),
    (
        "probabilities instead of logits",
        lambda z, c: torch.stack([part.sum(1) for part in columns(z.softmax(1), c)], 1),
    ),
    (
        "log-probabilities instead of logits",
        lambda z, c: torch.stack([part.sum(1) for part in columns(z.softmax(1), c)], 1).log(),
    ),
    ("softmax inside each class", of_each(lambda part: part.softmax(1).sum(1))),
    ("softmax inside each class", of_each(lambda part: part.softmax(1).sum(1).log())),
    ("logarithm forgotten", of_each(lambda part: part.exp().sum(1))),
    ("mean of the exponentials", of_each(lambda part: part.exp().mean(1).log())),
    ("the wrong columns", lambda z, c: torch.stack([z[:, k::c].logsumexp(1) for k in range(c)], 1)),
    ("summed over the classes", lambda z, c: z.view(len(z), c, -1).logsumexp(dim=1)),
    ("overflow", of_each(lambda part: part.exp().sum(1).log())),
    ("no gradient", lambda z, c: class_logits_in_a_loop(z.detach(), c)),
]

# auxiliary_loss


def auxiliary_in_loops(z, t):
    rows = [row - row.mean() for row in z]
    rows = [row / (row * row).sum().sqrt() for row in rows]
    each = [torch.stack([torch.dot(a, b) / t for b in rows]).logsumexp(0) for a in rows]
    return sum(each) / len(rows) - 1 / t - math.log(len(rows))


def auxiliary_by_correlation(z, t):
    return torch.log(torch.exp(torch.corrcoef(z) / t - 1 / t).mean(1)).mean()


def auxiliary_by_einsum(z, t):
    v = (z - z.mean(1, keepdim=True)) / z.std(1, correction=0, keepdim=True)
    similarity = torch.einsum("ik,jk->ij", v, v) / (t * z.shape[1])
    return F.cross_entropy(similarity, torch.arange(len(z))) - math.log(len(z))


def auxiliary(v="F.normalize(z - z.mean(1, keepdim=True), dim=1)", loss=None):
    """The loss from the sources of its vectors and of what is made of their products."""
    loss = loss or "torch.logsumexp(v @ v.T / t, 1).mean() - 1 / t - math.log(len(z))"
    return eval(f"lambda z, t: (lambda v: {loss})({v})", {"torch": torch, "F": F, "math": math})


AUXILIARY = [
    (CORRECT, auxiliary_in_loops),
    (CORRECT, auxiliary_by_correlation),
    (CORRECT, auxiliary_by_einsum),
    ("normalised over the batch", auxiliary("F.normalize(z - z.mean(0), dim=0)")),
    ("normalised over the batch", auxiliary("F.normalize(z - z.mean(0), dim=1)")),
    (
        "normalised over the batch",
        auxiliary("(z - z.mean(0)) / z.std(0, correction=0) / z.shape[1] ** 0.5"),
    ),
    ("mean not taken off", auxiliary("z / z.norm(dim=1, keepdim=True)")),
    ("not scaled to length 1", auxiliary("z - z.mean(1, keepdim=True)")),
    (
        "scaled to deviation 1 instead of length 1",
        auxiliary("(z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True)"),
    ),
    (
        "sample instead of population deviation",
        auxiliary("(z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True) / z.shape[1] ** 0.5"),
    ),
    ("log n forgotten", auxiliary(loss="(v @ v.T / t).exp().sum(1).log().mean() - 1 / t")),
    ("1/T forgotten", auxiliary(loss="(v @ v.T / t).exp().mean(1).log().mean()")),
    ("temperature forgotten", auxiliary(loss="(v @ v.T).exp().mean(1).log().mean() - 1")),
    ("temperature forgotten", auxiliary(loss="(v @ v.T).exp().mean(1).log().mean() - 1 / t")),
    ("sum instead of mean", auxiliary(loss="((v @ v.T / t).exp().mean(1).log() - 1 / t).sum()")),
    (
        "sum instead of mean",
        auxiliary(loss="torch.logsumexp(v @ v.T / t, 1).sum() - 1 / t - math.log(len(z))"),
    ),
    ("one logarithm for all", auxiliary(loss="(v @ v.T / t).exp().mean().log() - 1 / t")),
    ("the wrong sign", auxiliary(loss="1 / t - (v @ v.T / t).exp().mean(1).log().mean()")),
    ("no gradient", auxiliary(loss="(v @ v.T / t).exp().mean(1).log().mean().item() - 1 / t")),
]

# map_similarity


def similarity_by_scipy(maps, others):
    return [
        stats.spearmanr(a.flatten(), b.flatten()).statistic
        for a, b in zip(maps.numpy(), others.numpy(), strict=True)
    ]


def similarity_by_loops(maps, others):
    def ranks(values):
        return [sum((w < v) + (w == v) / 2 for w in values) for v in values]

    pairs = zip(maps.flatten(1).tolist(), others.flatten(1).tolist(), strict=True)
    return torch.tensor([np.corrcoef(ranks(a), ranks(b))[0, 1] for a, b in pairs])


def similarity_by_einsum(maps, others):
    a, b = (torch.from_numpy(stats.rankdata(m.flatten(1), axis=1)) for m in (maps, others))
    a, b = ((r - r.mean(1, keepdim=True)) / r.std(1, correction=0, keepdim=True) for r in (a, b))
    return torch.einsum("np,np->n", a, b) / a.shape[1]


def each_pair(measure):
    """A measure of two arrays of pixels, for every image."""
    return lambda maps, others: np.array(
        [measure(a.flatten(), b.flatten()) for a, b in zip(maps.numpy(), others.numpy())]  # noqa: B905
    )


def spearman(a, b):
    return stats.spearmanr(a, b).statistic


def cosine_of(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def textbook(a, b):
    n = len(a)
    return 1 - 6 * ((stats.rankdata(a) - stats.rankdata(b)) ** 2).sum() / (n * (n**2 - 1))


def at_each_pixel(maps, others):
    one, other = maps.flatten(1).T.numpy(), others.flatten(1).T.numpy()
    each = [spearman(a, b) for a, b in zip(one, other, strict=True)]
    return np.array(each).reshape(maps.shape[1:])


SIMILARITY = [
    (CORRECT, similarity_by_scipy),
    (CORRECT, similarity_by_loops),
    (CORRECT, similarity_by_einsum),
    (CORRECT, similarity.rank_correlation),
    ("Pearson instead of ranks", each_pair(lambda a, b: np.corrcoef(a, b)[0, 1])),
    ("cosine without centring", similarity.cosine),
    (
        "ranks not centred",
        each_pair(lambda a, b: cosine_of(stats.rankdata(a), stats.rankdata(b))),
    ),
    (
        "positions instead of ranks",
        each_pair(lambda a, b: np.corrcoef(a.argsort(), b.argsort())[0, 1]),
    ),
    ("magnitude of one map only", each_pair(lambda a, b: spearman(np.abs(a), b))),
    ("magnitude of one map only", each_pair(lambda a, b: spearman(a, np.abs(b)))),
    ("signs thrown away", each_pair(lambda a, b: spearman(np.abs(a), np.abs(b)))),
    ("all images as one map", lambda a, b: spearman(a.flatten(), b.flatten())),
    ("mean map first", lambda a, b: spearman(a.mean(0).flatten(), b.mean(0).flatten())),
    ("averaged over the images", lambda a, b: similarity.rank_correlation(a, b).mean()),
    ("ranked across the images", at_each_pixel),
    ("Kendall instead of Spearman", each_pair(lambda a, b: stats.kendalltau(a, b).statistic)),
    ("distance instead of similarity", lambda a, b: 1 - similarity.rank_correlation(a, b)),
    ("the short formula where pixels are equal", each_pair(textbook)),
    (
        "ties broken by their place",
        each_pair(lambda a, b: np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1]),
    ),
]

# deletion_area


def deletion_by_ranks(answer, image, saliency, steps):
    ranks = (-saliency).flatten().argsort().argsort().view_as(image)
    gone = torch.arange(steps + 1) / steps * ranks.numel()
    curve = [answer(image * (ranks >= k)).item() for k in gone]
    return np.trapezoid(curve, dx=1 / steps)


def deletion_in_a_loop(answer, image, saliency, steps):
    left, area = image.clone(), 0.0
    places = sorted(np.ndindex(*image.shape), key=lambda at: saliency[at].item(), reverse=True)
    before = answer(left).item()
    for step in range(steps):
        for at in places[step * len(places) // steps : (step + 1) * len(places) // steps]:
            left[at] = 0
        after = answer(left).item()
        area += (before + after) / 2 / steps
        before = after
    return area


def deletion(area="torch.trapezoid(p) / k", order="-m", first=0, last=1, shown="x * (r >= n)"):
    """From the sources of the area under the points p, of the order and of what is shown."""
    source = (
        f"def answer(f, x, m, k):\n    r = ({order}).flatten().argsort().argsort().view_as(x)\n"
        f"    each = r.numel() // k\n"
        f"    p = [f({shown}) for n in range({first} * each, (k + {last}) * each, each)]\n"
        f"    p = torch.stack(p)\n    return {area}\n"
    )
    names = {"torch": torch}
    exec(source, names)
    return names["answer"]


DELETION = [
    (CORRECT, deletion_by_ranks),
    (CORRECT, deletion_in_a_loop),
    (CORRECT, deletion("(p[1:] + p[:-1]).mean() / 2")),
    ("the mean of the points", deletion("p.mean()")),
    ("the mean of the points", deletion("p.sum() / (k + 1)")),
    ("divided by the points instead of the intervals", deletion("torch.trapezoid(p) / len(p)")),
    ("not divided at all", deletion("p.sum() - p[0] / 2 - p[-1] / 2")),
    ("rectangles instead of trapezoids", deletion("p.mean()", last=0)),
    ("rectangles instead of trapezoids", deletion("p.mean()", first=1)),
    ("the empty image forgotten", deletion(last=0)),
    ("the empty image forgotten", deletion("torch.trapezoid(p) / (len(p) - 1)", last=0)),
    ("the whole image forgotten", deletion(first=1)),
    ("the whole image forgotten", deletion("torch.trapezoid(p) / (len(p) - 1)", first=1)),
    ("the least important first, or insertion", deletion(order="m")),
    ("the least important first, or insertion", deletion(shown="x * (r < n)")),
    ("by magnitude", deletion(order="-m.abs()")),
    ("removed pixels come back", deletion(shown="x * ((r >= n) | (r < n - each))")),
    ("the brightest instead of the most important", deletion(order="-x")),
]

# layer_flops


cost(torch.nn.Linear(1, 1), torch.zeros(1, 1))  # what counts is imported by its first use


def flops_by_kdnb(layer, batch):
    return cost(layer, batch).flops


def flops_by_torch(layer, batch):
    with FlopCounterMode(display=False) as counted:
        output = layer(batch)
    biases = 0 if layer.bias is None else output.numel()
    return (counted.get_total_flops() + biases) / len(batch)


def flops_in_loops(layer, batch):
    total = 0
    for value in layer(batch[:1])[0]:  # a value of a dense layer, a channel of a convolution
        each = 2 * layer.weight[0].numel() + (layer.bias is not None)
        total += each * value.numel()
    return total


def flops(places="h * w", weights="a.weight.numel()", dense=None, biases="b * places", factor=2):
    """From the sources of how a convolution is counted; b is its number of biases."""
    source = (
        "def answer(a, x):\n    b = 0 if a.bias is None else len(a.bias)\n"
        "    out = a(x)\n    n = len(x)\n"
        f"    if x.ndim == 2:\n        places = 1\n"
        f"        return {dense or f'{factor} * a.weight.numel() + {biases}'}\n"
        f"    h, w = out.shape[2:]\n    (kh, kw), s, p = a.kernel_size, a.stride, a.padding\n"
        f"    places = {places}\n    return {factor} * {weights} * places + {biases}\n"
    )
    names = {"torch": torch}
    exec(source, names)
    return names["answer"]


NO_STRIDE = "(x.shape[2] + 2 * p[0] - kh + 1) * (x.shape[3] + 2 * p[1] - kw + 1)"
NO_PADDING = "((x.shape[2] - kh) // s[0] + 1) * ((x.shape[3] - kw) // s[1] + 1)"
CHANNELS = "a.in_channels * a.out_channels"
WHOLE = "2 * n * a.weight.numel() + n * b"
FLOPS = [
    (CORRECT, flops_by_kdnb),
    (CORRECT, flops_by_torch),
    (CORRECT, flops_in_loops),
    (CORRECT, flops(weights=f"kh * kw * {CHANNELS} // a.groups")),
    ("MACs instead of FLOPs", flops(factor=1)),
    ("MACs instead of FLOPs", flops(factor=1, biases="0")),
    ("bias forgotten", flops(biases="0")),
    ("bias counted twice", flops(biases="2 * b * places")),
    ("bias at one place only", flops(biases="b")),
    ("a bias that is not there", flops(biases="a.weight.shape[0] * places")),
    ("the whole batch", flops(places="n * h * w", dense=WHOLE)),
    ("each weight used once", flops(places="1")),
    ("the input's places", flops(places="x.shape[2] * x.shape[3]")),
    ("stride forgotten", flops(places=NO_STRIDE)),
    ("padding forgotten", flops(places=NO_PADDING)),
    ("one side of the kernel", flops(weights=f"kh * {CHANNELS} // a.groups")),
    ("one side of the kernel", flops(weights=f"kw * {CHANNELS} // a.groups")),
    ("kernel forgotten", flops(weights=f"{CHANNELS} // a.groups")),
    ("input channels forgotten", flops(weights="kh * kw * a.out_channels")),
    ("groups forgotten", flops(weights=f"kh * kw * {CHANNELS}")),
    ("only dense layers", flops(places="0")),
    ("parameters instead of FLOPs", lambda a, x: sum(p.numel() for p in a.parameters())),
]

# which_currency: the teacher and the 784-784 student of MNIST, as the README has them.


def counted(parameters, flops):
    nothing = dict.fromkeys(("macs", "thop_macs", "stored_bytes", "activation_bytes"), 0)
    return Cost(parameters=parameters, flops=flops, thop_extra={}, **nothing)


FACTS["which_currency"] = counted(1_238_730, 2_475_882), counted(1_011_466, 22_042_058)
CURRENCY = [
    (CORRECT, (1_238_730 / 1_011_466, 2_475_882 / 22_042_058)),
    (CORRECT, torch.tensor([1.225, 0.1123])),
    ("upside down", (1_011_466 / 1_238_730, 22_042_058 / 2_475_882)),
    ("currencies exchanged", [0.1123, 1.225]),
    ("parameters for FLOPs", (1.225, 1.225)),
    ("FLOPs for parameters", (0.1123, 0.1123)),
    ("what is saved instead of what is left", (-0.2247, 0.8877)),
    ("differences instead of shares", (1_238_730 - 1_011_466, 2_475_882 - 22_042_058)),
    ("per cent instead of shares", (122.5, 11.23)),
    ("one currency only", 1.225),
    ("one currency only", 0.1123),
]

# gap_won_back


def share_by_numpy(teacher, alone, distilled):
    gap = np.subtract(teacher, alone).mean()
    return np.subtract(distilled, alone).mean() / gap


def share_by_sums(teacher, alone, distilled):
    won = sum(d - a for d, a in zip(distilled, alone, strict=True))
    return won / sum(t - a for t, a in zip(teacher, alone, strict=True))


def share_of_means(formula):
    return eval(
        f"lambda t, a, d: (lambda t, a, d: {formula})(np.mean(t), np.mean(a), np.mean(d))",
        {"np": np},
    )


WON_BACK = [
    (CORRECT, share_by_numpy),
    (CORRECT, share_by_sums),
    (CORRECT, share_of_means("1 - (t - d) / (t - a)")),
    (
        "mean of the ratios",
        lambda t, a, d: np.mean(np.subtract(d, a) / np.subtract(t, a)),
    ),
    ("a share of the teacher's accuracy", share_of_means("(d - a) / t")),
    ("a share of the student's accuracy", share_of_means("d / a - 1")),
    ("a share of the errors", share_of_means("((1 - a) - (1 - d)) / (1 - a)")),
    ("the wrong sign", share_of_means("(d - a) / (a - t)")),
    ("what is still missing", share_of_means("(t - d) / (t - a)")),
    ("upside down", share_of_means("(t - a) / (d - a)")),
    ("not divided by the gap", share_of_means("d - a")),
    ("distilled over teacher", share_of_means("d / t")),
    ("the best seeds", lambda t, a, d: (max(d) - max(a)) / (max(t) - max(a))),
    ("per cent instead of a share", share_of_means("100 * (d - a) / (t - a)")),
]

# allowed_claims. The seeds of a row lie far apart, and with three of them the 95 % interval of a
# mean is ± 2.48 standard deviations. Conventional KD is 1.9, 2.0 and 2.1 ahead of the student
# alone: a gain, though the intervals of both accuracies overlap. Subclass KD is 6, 1.5 and -0.5
# ahead: no clear gain, and none over conventional KD, though its mean is higher; its best seed is
# worse than both of the others'. The teacher is ahead of them by any measure.

FACTS["allowed_claims"] = (
    torch.tensor([[80, 84, 88], [81.9, 86, 90.1], [86, 85.5, 87.5], [98.6, 98.7, 98.8]]),
)
CLAIMS = [
    (CORRECT, [1, 0, 0, 1]),
    (CORRECT, np.array([True, False, False, True])),
    ("means alone", [1, 1, 1, 1]),
    ("one clear, the other not, so they differ", (1, 0, -1, 1)),
    ("overlapping intervals", (0, 0, 0, 1)),
    ("best seed against best seed", [1, -1, -1, 1]),
    ("the wrong way round", torch.tensor([-1, 0, 0, -1])),
    ("nothing may be claimed", [0, 0, 0, 0]),
]

# difference_of_gains


def more_by_scipy(small, small_alone, large, large_alone):
    more = np.subtract(small, small_alone) - np.subtract(large, large_alone)
    return stats.t.interval(0.95, len(more) - 1, more.mean(), stats.sem(more))


def more_by_paired_test(small, small_alone, large, large_alone):
    gains = np.subtract(small, small_alone), np.subtract(large, large_alone)
    interval = stats.ttest_rel(*gains).confidence_interval(0.95)
    return np.array([interval.low, interval.high])


def more_with(quantile, root=True):
    def answer(small, small_alone, large, large_alone):
        more = np.subtract(small, small_alone) - np.subtract(large, large_alone)
        half = quantile(len(more)) * more.std(ddof=1) / (np.sqrt(len(more)) if root else 1)
        return more.mean() - half, more.mean() + half

    return answer


def more_unpaired(s, sa, g, ga):
    return tuple(stats.ttest_ind(np.subtract(s, sa), np.subtract(g, ga)).confidence_interval(0.95))


def more_from_ends(cautious):
    def answer(s, sa, g, ga):
        (low, high), (other_low, other_high) = gain_by_scipy(s, sa), gain_by_scipy(g, ga)
        if cautious:
            return low - other_high, high - other_low
        return low - other_low, high - other_high

    return answer


def halves_in_quadrature(s, sa, g, ga):
    (low, high), (other_low, other_high) = gain_by_scipy(s, sa), gain_by_scipy(g, ga)
    middle = (low + high - other_low - other_high) / 2
    half = math.hypot(high - low, other_high - other_low) / 2
    return middle - half, middle + half


DIFFERENCE = [
    (CORRECT, more_by_scipy),
    (CORRECT, more_by_paired_test),
    (CORRECT, more_with(students_t)),
    ("gains not paired", more_unpaired),
    ("gains not paired", halves_in_quadrature),
    ("ends subtracted from ends", more_from_ends(cautious=True)),
    ("ends subtracted from ends", more_from_ends(cautious=False)),
    ("the small student's gain alone", lambda s, sa, g, ga: gain_by_scipy(s, sa)),
    ("the students alone forgotten", lambda s, sa, g, ga: gain_by_scipy(s, g)),
    ("gains added", lambda s, sa, g, ga: more_by_scipy(s, sa, ga, g)),
    ("the wrong way round", lambda s, sa, g, ga: more_by_scipy(g, ga, s, sa)),
    ("standard deviation instead of standard error", more_with(students_t, root=False)),
    ("normal instead of t", more_with(lambda n: 1.96)),
    ("only the mean", lambda s, sa, g, ga: sum(more_by_scipy(s, sa, g, ga)) / 2),
    ("only the mean", lambda s, sa, g, ga: [sum(more_by_scipy(s, sa, g, ga)) / 2] * 2),
]

BANK = {
    "softened_softmax": SOFTENED,
    "soft_target_bits": BITS,
    "second_opinion": OPINION,
    "frozen_logits": FROZEN,
    "confidence_gap": GAP,
    "kd_loss": KD,
    "why_t2": WHY_T2,
    "choose_temperature": CHOICE,
    "real_gain": GAIN,
    "class_logits": HEAD,
    "auxiliary_loss": AUXILIARY,
    "map_similarity": SIMILARITY,
    "deletion_area": DELETION,
    "layer_flops": FLOPS,
    "which_currency": CURRENCY,
    "gap_won_back": WON_BACK,
    "allowed_claims": CLAIMS,
    "difference_of_gains": DIFFERENCE,
}


def key_of(exercise):
    """The name of a test's case."""
    return exercise.key
