"""A trial on two images: whether a network can be trained, stored, loaded and run.

The trial uses the same functions as the course: `kdnb.training.fit` and `predict`, the run store's
tensors, and the copies and gradients of notebooks 04 and 05.
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
from kdnb.training.loop import fit, predict

CONFIG = TrainConfig(epochs=2, batch_size=2, learning_rate=1e-3)
# By how much logits may differ, as a share of the largest: for the same batch, and where sums are
# made in another order, since the batch or the order in memory is another.
ROUNDING, ANOTHER_ORDER = 1e-5, {"cpu": 3e-5, "cuda": 1e-3, "mps": 1e-3}  # TF32 and the like
BY_CHANCE = (
    "gives two outputs for one image in eval mode: use nn.Dropout, or F.dropout with "
    "training=self.training, and no other randomness or state there"
)


class Contiguous(nn.Sequential):
    """A module whose tensors stay in torch's usual order, whatever memory format is requested."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.contiguous())

    def to(self, *args: object, memory_format: object = None, **kwargs: object) -> nn.Module:
        """As for any module, except that ``memory_format`` is ignored."""
        return super().to(*args, **kwargs)


class LogitsOnly(nn.Sequential):
    """A module that returns more than logits, such as auxiliary outputs, reduced to its logits.

    Logits are the first element of a tuple or list, or the entry "logits" of a dictionary.
    """

    def forward(self, images: Tensor) -> Tensor:
        return _logits(super().forward(images))


def _logits(output: object) -> object:
    if isinstance(output, Mapping):
        return output.get("logits")
    return output[0] if isinstance(output, tuple | list) and output else output


class MisfitError(ValueError):
    """The misfit of a network, as the rest of a sentence about it.

    ``remedy`` is a wrapper with which the network may suit.
    """

    def __init__(self, message: str, remedy: type[nn.Module] | None = None):
        super().__init__(message)
        self.remedy = remedy


@contextmanager
def _tried(failing: str, remedy: type[nn.Module] | None = None) -> Iterator[None]:
    try:
        yield
    except MisfitError:
        raise
    except Exception as error:  # a reader's network may raise anything
        raise MisfitError(f"{failing}: {reason(error)}", remedy) from error


def trial(
    build: Callable[[], nn.Module], images: Tensor, classes: int, subclasses: int
) -> list[str]:
    """Try the network that ``build`` makes on two different (2, C, H, W) uint8 images.

    Returns notes for the reader, each as the rest of a sentence about the network. Raises
    `MisfitError` if the network cannot be built, trained, copied, stored or loaded, if it gives
    other than (N, classes · subclasses) numbers, or different logits for the same image.
    """
    heads = f"{classes} classes" if subclasses == 1 else f"{classes} × {subclasses} subclasses"
    kind = f"images of shape {'×'.join(map(str, images.shape[1:]))}"
    shape = (len(images), classes * subclasses)
    wish = f"must give a tensor of shape {shape} for {len(images)} {kind} and {heads}"
    device = best_device()
    images = images.to(device)
    pixels = images / 255
    with seeded(0):
        with _tried(f"cannot be built for {heads}"):
            model, fresh = built(build), built(build)
        _check_as_built(model, fresh)
        with _tried(f"cannot take {kind}"), torch.no_grad():
            plain = _output(model.to(device).eval(), pixels, shape, wish)
            again = _output(model, pixels, shape, wish)
        if not _close(plain, again, ROUNDING):
            raise MisfitError(BY_CHANCE)
        # From here on in the order of memory in which everything runs.
        with _tried("cannot take images that lie channels_last in memory", Contiguous):
            reordered = predict(model, TranslatedImages(images), device=device)
        if not _close(plain.float().cpu(), reordered, ANOTHER_ORDER[device.type]):
            raise MisfitError("gives other logits for images channels_last in memory", Contiguous)
        before = dict(model.named_parameters())
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        with _tried("cannot be trained", Contiguous):
            output = _output(model.train(), pixels, shape, wish)
        _check_reached(output, before, model, fresh)
        _check_training(model, images, shape[1])
        logits = _check_predictions(model, fresh, images)
        return list(_notes(fresh, pixels, logits))


def built(build: Callable[[], nn.Module]) -> nn.Module:
    with seeded(0):
        return build()


def _close(logits: Tensor, others: Tensor, within: float) -> bool:
    return torch.allclose(logits, others, rtol=0, atol=within * logits.abs().max().item())


def _check_as_built(model: nn.Module, twin: nn.Module) -> None:
    for name, value in model.state_dict().items():
        if kind := _unstorable(value):
            raise MisfitError(f"keeps {name} as a {kind}: keep dense tensors, in buffers")
    for name, weight in model.named_parameters():
        if weight.dtype != torch.float32:
            raise MisfitError(f"has {name} in {weight.dtype}, and float32 is trained: use .float()")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise MisfitError("is TorchScript, whose layers cannot be counted: use no torch.jit")
    if model.eval() is not model:
        raise MisfitError("has a train() that does not return the network: let it return self")
    if weights_digest(model) != weights_digest(twin):
        raise MisfitError("has other weights each time for one seed: draw them with torch only")
    with _tried("cannot be copied (copy.deepcopy), as is done to count what it costs"):
        deepcopy(twin)


def _unstorable(value: object) -> str:
    """The kind of a value that cannot be stored; empty for a dense tensor with its own values."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    if value.is_quantized:
        return f"{value.dtype} tensor"
    if value.is_meta:
        return "meta tensor, without values"
    if value.layout != torch.strided:
        return f"{value.layout} tensor"
    expanded = any(step == 0 and n > 1 for step, n in zip(value.stride(), value.shape, strict=True))
    return "tensor of one number for many (expand, without .clone())" if expanded else ""


def _output(model: nn.Module, pixels: Tensor, shape: tuple[int, int], wish: str) -> Tensor:
    """The output of ``model`` for ``pixels`` in its present mode."""
    mode = "in train mode" if model.training else "in eval mode"
    shown = pixels.clone(memory_format=torch.preserve_format)
    output = model(shown)
    if not isinstance(output, Tensor):
        logits = _logits(output)
        found = tuple(logits.shape) if isinstance(logits, Tensor) else None
        got = f"{type(output).__name__}{f' with {found} first' if found else ''} {mode}"
        remedy = LogitsOnly if found == shape else None
        raise MisfitError(f"{wish}, alone or first in a tuple, got {got}", remedy)
    if output.shape != shape:
        raise MisfitError(f"{wish}, got {tuple(output.shape)} {mode}")
    if not output.is_floating_point():
        raise MisfitError(f"must give real numbers with decimals, got {output.dtype} {mode}")
    if not output.isfinite().all():
        raise MisfitError(f"gives numbers that are infinite or not numbers (NaN) {mode}, untrained")
    if not torch.equal(shown, pixels):
        raise MisfitError(f"changes the images that it is given {mode}: let it change a copy")
    return output


def _check_reached(
    output: Tensor, before: dict[str, nn.Parameter], model: nn.Module, fresh: nn.Module
) -> None:
    """Training must reach exactly the parameters that the network had when it was built."""
    after = dict(model.named_parameters())
    made = model.state_dict().keys() ^ fresh.state_dict().keys()
    made |= {name for name, weight in after.items() if before.get(name) is not weight}
    if made:
        raise MisfitError(f"makes {min(made)} only when it runs: make it in __init__")
    if not output.requires_grad:
        raise MisfitError("has nothing to train: its output has no gradient (frozen, detached)")
    known = {id(weight) for weight in after.values()}
    seen, nodes = {None}, [output.grad_fn]
    while nodes:
        node = nodes.pop()
        if node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, nn.Parameter) and id(leaf) not in known:
            raise MisfitError(
                f"uses a weight of shape {tuple(leaf.shape)} that is not among its parameters and "
                "would not be trained: keep layers in an nn.ModuleList, not in a list"
            )


def _check_training(model: nn.Module, images: Tensor, outputs: int) -> None:
    """Two epochs of one step."""
    split = Split(images.cpu(), torch.arange(len(images)) % outputs)
    with _tried("cannot be trained", Contiguous):
        history = fit(model, split, split, CONFIG, seed=0, device=images.device)
    if history.interrupted:  # which `fit` keeps to itself
        raise KeyboardInterrupt
    if not any(weight.grad.any() for weight in model.parameters() if weight.grad is not None):
        raise MisfitError("has nothing to train: all gradients are 0")


def _check_predictions(model: nn.Module, fresh: nn.Module, images: Tensor) -> Tensor:
    """The trained model's logits, which must be the same on every call and for every copy."""

    def logits_of(network: nn.Module, count: int = len(images)) -> Tensor:
        return predict(network, TranslatedImages(images[:count]), device=images.device)

    logits = logits_of(model)
    if not _close(logits, logits_of(model), ROUNDING):
        raise MisfitError(BY_CHANCE)
    with _tried("cannot take a single image"):
        single = logits_of(model, 1)
    if not _close(logits[:1], single, ANOTHER_ORDER[images.device.type]):
        raise MisfitError(
            "gives logits that depend on the others of a batch: give batch-norm running "
            "statistics, attention batch_first=True"
        )
    with _tried("cannot be stored and loaded"):
        state = model.state_dict()
        copies = {n: t.cpu().clone(memory_format=torch.contiguous_format) for n, t in state.items()}
        fresh.load_state_dict(load(save(copies)))
        loaded = logits_of(fresh)
    if not _close(logits, loaded, ROUNDING):
        raise MisfitError("gives other logits when stored and loaded: keep its state in buffers")
    with _tried("cannot be copied (copy.deepcopy) when it was trained, as notebook 04 does"):
        copied = logits_of(deepcopy(model))
    if not _close(logits, copied, ROUNDING):
        raise MisfitError("gives other logits as a copy: its hooks belong to the original")
    return logits


def _notes(model: nn.Module, pixels: Tensor, logits: Tensor) -> Iterator[str]:
    """Notes for the reader on a network that can be trained."""
    noise = TranslatedImages(torch.randint_like(pixels, 256).byte())
    if (torch.cat([logits, predict(model, noise, device=pixels.device)]) == logits[0]).all():
        yield "gives the same logits for every image, also after a step of training"
    try:
        shown = pixels.clone().requires_grad_()
        torch.autograd.grad(model(shown).sum(), shown)
    except Exception as error:  # a reader's network may raise anything
        yield f"has no saliency maps, so that notebooks 04 and 06 will stop: {reason(error)}"
