"""A bank of answers to the exercises, as readers write them: right in other ways, and wrong.

`attempts` of an exercise are (what the checker shall say, the answer). Wrong ones must get exactly
the name that stands beside them.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats

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
    likeness = torch.einsum("ik,jk->ij", v, v) / (t * z.shape[1])
    return F.cross_entropy(likeness, torch.arange(len(z))) - math.log(len(z))


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

BANK = {
    "softened_softmax": SOFTENED,
    "soft_target_bits": BITS,
    "second_opinion": OPINION,
    "kd_loss": KD,
    "why_t2": WHY_T2,
    "choose_temperature": CHOICE,
    "real_gain": GAIN,
    "class_logits": HEAD,
    "auxiliary_loss": AUXILIARY,
}
