"""Whether a network can be trained, stored, loaded and asked: tried once, on two images.

What is tried is what will be done: `kdnb.training.fit` and `predict`, the tensors that the run
store keeps, and the copies and gradients that notebooks 04 and 05 need.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from kdnb.data import Split
from kdnb.data.augmentation import TranslatedImages
from kdnb.environment import best_device, seeded
from kdnb.store.store import weights_digest
from kdnb.tasks.modules import reason
from kdnb.training.config import TrainConfig
from kdnb.training.loop import TrainingDivergedError, fit, predict

RECIPE = TrainConfig(epochs=2, batch_size=2, learning_rate=1e-3)
# By how much answers may differ, as a share of the largest: to the same batch, and where sums are
# made in another order, since the batch or the order in memory is another.
ROUNDING, ANOTHER_ORDER = 1e-5, 1e-3


class Contiguous(nn.Module):
    """A module whose tensors stay in torch's usual order, whatever order it is asked for."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.contiguous())

    def to(self, *args: object, **kwargs: object) -> nn.Module:
        """As of any module, but for ``memory_format``."""
        kwargs.pop("memory_format", None)
        return super().to(*args, **kwargs)


class LogitsOnly(nn.Module):
    """A module that gives more than its logits, such as auxiliary outputs, without the rest.

    Logits are what comes first in a tuple or list, or is called "logits" in a dictionary.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return _logits(self.network(images))


def _logits(output: object) -> object:
    if isinstance(output, Mapping):
        return output.get("logits")
    return output[0] if isinstance(output, tuple | list) and output else output


class MisfitError(ValueError):
    """What does not suit, as the rest of a sentence about the network.

    ``remedy`` is a wrapper with which the network may suit.
    """

    def __init__(self, message: str, remedy: type[nn.Module] | None = None):
        super().__init__(message)
        self.remedy = remedy


def trial(
    build: Callable[[], nn.Module], images: Tensor, classes: int, subclasses: int
) -> list[str]:
    """Try the network that ``build`` makes on two different (2, C, H, W) uint8 images.

    Returns what its reader should know, each as the rest of a sentence about the network. Raises
    `MisfitError` if it cannot be built, gives other than (N, classes · subclasses) numbers, cannot
    be trained, copied, stored or loaded, or has not one answer for an image.
    """
    heads = f"{classes} classes" if subclasses == 1 else f"{classes} × {subclasses} subclasses"
    shape = "×".join(map(str, images.shape[1:]))
    want = (len(images), classes * subclasses)
    device = best_device()
    with seeded(0):
        with _tried(f"cannot be built for {heads}"):
            model, fresh = _built(build), _built(build)
        _check_as_built(model, fresh)
        pixels = (images / 255).to(device)
        wish = f"of shape {want} for {len(images)} images of shape {shape} and {heads}"
        with _tried(f"cannot take images of shape {shape}"), torch.no_grad():
            plain = _answer(model.to(device).eval(), pixels, want, wish)
            again = _answer(model, pixels, want, wish)
        _check_alike(plain, again)
        # From here on in the order of memory in which everything runs.
        with _tried("cannot take images that lie channels_last in memory", Contiguous):
            reordered = predict(model, TranslatedImages(images.to(device)), device=device)
        if not _alike(plain.float().cpu(), reordered, ANOTHER_ORDER):
            raise MisfitError("answers otherwise to images channels_last in memory", Contiguous)
        before = dict(model.named_parameters())
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with _tried("cannot be trained", Contiguous):
            output = _answer(model.train(), pixels, want, wish)
        _check_reached(output, before, model, fresh)
        _train(model, images, want[1], device)
        return _notes(fresh, pixels, _check_answers(model, fresh, images))


@contextmanager
def _tried(failing: str, remedy: type[nn.Module] | None = None) -> Iterator[None]:
    try:
        yield
    except MisfitError:
        raise
    except Exception as error:  # whatever a network of the reader's may raise
        raise MisfitError(f"{failing}: {reason(error)}", remedy) from error


def _built(build: Callable[[], nn.Module]) -> nn.Module:
    with seeded(0):
        return build()


def _check_as_built(model: nn.Module, twin: nn.Module) -> None:
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise MisfitError(
                f"keeps a {type(value).__name__} as {name}, and only tensors can be stored: "
                "register them as buffers instead of an extra state"
            )
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            kind = value.dtype if value.is_quantized else "meta" if value.is_meta else value.layout
            raise MisfitError(f"keeps {name} as a {kind} tensor: make it a dense one, with values")
        if any(step == 0 and n > 1 for step, n in zip(value.stride(), value.shape, strict=True)):
            raise MisfitError(f"keeps {name} as one number for many (expand): add .clone()")
    for name, weight in model.named_parameters():
        if weight.dtype != torch.float32:
            raise MisfitError(
                f"has {name} in {weight.dtype}, and float32 is trained here: build it with .float()"
            )
    if not any(weight.requires_grad for weight in model.parameters()):
        raise MisfitError("has nothing to train: let at least one parameter require a gradient")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise MisfitError(
            "is TorchScript, whose layers cannot be counted: give it without torch.jit"
        )
    if model.eval() is not model:
        raise MisfitError("has a train() that does not return the network: let it return self")
    if weights_digest(model) != weights_digest(twin):
        raise MisfitError(
            "has other weights each time that it is built with one seed: draw them by torch's own "
            "random numbers"
        )
    with _tried("cannot be copied (copy.deepcopy), as is done to count what it costs"):
        deepcopy(twin)


def _answer(model: nn.Module, pixels: Tensor, want: tuple[int, int], wish: str) -> Tensor:
    """What ``model`` gives for ``pixels`` in the mode in which it is."""
    mode = "in train mode" if model.training else "in eval mode"
    shown = pixels.clone(memory_format=torch.preserve_format)
    output = model(shown)
    if not isinstance(output, Tensor):
        logits = _logits(output)
        fits = isinstance(logits, Tensor) and logits.shape == want
        inside = f" with {tuple(logits.shape)} first" if isinstance(logits, Tensor) else ""
        raise MisfitError(
            f"must give a tensor {wish}, alone or first in a tuple, got {type(output).__name__}"
            f"{inside} {mode}",
            LogitsOnly if fits else None,
        )
    if output.shape != want:
        raise MisfitError(f"must give a tensor {wish}, got {tuple(output.shape)} {mode}")
    if not output.is_floating_point():
        raise MisfitError(f"must give real numbers with decimals, got {output.dtype} {mode}")
    if not output.isfinite().all():
        raise MisfitError(f"gives numbers that are infinite or not numbers (NaN) {mode}, untrained")
    if not torch.equal(shown, pixels):
        raise MisfitError(f"changes the images that it is given {mode}: let it change a copy")
    return output


def _check_alike(answer: Tensor, again: Tensor) -> None:
    if not _alike(answer, again, ROUNDING):
        raise MisfitError(
            "gives two answers to one image in eval mode: use nn.Dropout, or F.dropout with "
            "training=self.training, and no other chance or memory there"
        )


def _check_reached(
    output: Tensor, before: dict[str, nn.Parameter], model: nn.Module, fresh: nn.Module
) -> None:
    """Training must reach the parameters there were when the network was built, and no others."""
    made = model.state_dict().keys() ^ fresh.state_dict().keys()
    after = dict(model.named_parameters())
    made |= {name for name, weight in after.items() if before.get(name) is not weight}
    if made:
        raise MisfitError(f"makes {min(made)} only when it answers: make it in __init__")
    if not output.requires_grad:
        raise MisfitError(
            "has nothing to train: its output has no gradient (detach, no_grad, argmax)"
        )
    known = {id(weight) for weight in after.values()}
    seen, nodes = set(), [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, nn.Parameter) and id(leaf) not in known:
            raise MisfitError(
                f"uses a weight of shape {tuple(leaf.shape)} that is not among its parameters and "
                "would not be trained: keep layers in an nn.ModuleList, not in a list"
            )


def _train(model: nn.Module, images: Tensor, outputs: int, device: torch.device) -> None:
    """Two epochs of one step."""
    split = Split(images, torch.arange(len(images)) % outputs)
    with _tried("cannot be trained", Contiguous):
        try:
            history = fit(model, split, split, RECIPE, seed=0, device=device)
        except TrainingDivergedError as error:
            raise MisfitError(
                "cannot be trained: a step makes its weights infinite or NaN"
            ) from error
    if history.interrupted:  # which `fit` keeps to itself
        raise KeyboardInterrupt
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    if not any(gradient.any() for gradient in gradients):
        raise MisfitError("has nothing to train: all gradients are 0")


def _check_answers(model: nn.Module, fresh: nn.Module, images: Tensor) -> Tensor:
    """The trained model's answers, which must be the same whenever and by whichever copy."""
    device = next(model.parameters()).device
    shown = TranslatedImages(images.to(device))
    answer = predict(model, shown, device=device)
    _check_alike(answer, predict(model, shown, device=device))
    with _tried("cannot take a single image"):
        single = predict(model, TranslatedImages(images[:1].to(device)), device=device)
    if not _alike(answer[:1], single, ANOTHER_ORDER):
        raise MisfitError(
            "answers to an image as the others of its batch are: give batch-norm running "
            "statistics, attention batch_first=True"
        )
    with _tried("cannot be stored and loaded"):
        state = {n: t.detach().cpu().clone().contiguous() for n, t in model.state_dict().items()}
        fresh.to(device, memory_format=torch.channels_last).load_state_dict(load(save(state)))
        loaded = predict(fresh, shown, device=device)
    if not _alike(answer, loaded, ROUNDING):
        raise MisfitError(
            "answers otherwise when it was stored and loaded: keep what training changes, and what "
            "is drawn in __init__, as parameters or buffers"
        )
    with _tried("cannot be copied (copy.deepcopy) when it was trained, as notebook 04 does"):
        twin = predict(deepcopy(model), shown, device=device)
    if not _alike(answer, twin, ROUNDING):
        raise MisfitError(
            "answers otherwise as a copy (copy.deepcopy): its hooks belong to the original"
        )
    return answer


def _notes(model: nn.Module, pixels: Tensor, answer: Tensor) -> list[str]:
    """What its reader should know of a network that can be trained."""
    notes = []
    noise = torch.randint(0, 256, pixels.shape, dtype=torch.uint8)
    other = predict(model, TranslatedImages(noise.to(pixels.device)), device=pixels.device)
    if (torch.cat([answer, other]) == answer[0]).all():
        notes.append("gives the same answer to every image, also after a step of training")
    try:
        with _tried("has no saliency maps, so that notebooks 04 and 06 will stop"):
            shown = pixels.clone().requires_grad_()
            torch.autograd.grad(model(shown).sum(), shown)
    except MisfitError as misfit:
        notes.append(str(misfit))
    return notes


def _alike(answer: Tensor, other: Tensor, within: float) -> bool:
    return torch.allclose(answer, other, rtol=0, atol=within * answer.abs().max().item())
