"""What networks answer, computed once per weights, image and view, and kept in the run store."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kdnb.data import Split
from kdnb.data.augmentation import CachedFeatures, TranslatedImages, Views
from kdnb.experiment.results import Run
from kdnb.fingerprint import code_fingerprint
from kdnb.store.description import description, precision
from kdnb.store.store import Store, digest, weights_digest
from kdnb.training.config import TrainConfig
from kdnb.training.loop import predict, views_of


class LogitCache:
    """Logits of runs and outputs of frozen stages, looked up in ``store`` or computed there.

    Keys are made from the engine's source, the network's description, its weights, the fingerprint
    of the images and the view, so other networks, weights or images never get these answers.
    """

    def __init__(self, store: Store, device: torch.device):
        self.store, self.device = store, device
        self._features: dict[tuple, CachedFeatures] = {}
        self._digests: WeakKeyDictionary[nn.Module, tuple[list, str]] = WeakKeyDictionary()

    def logits(self, run: Run, split: Split, config: TrainConfig | None = None) -> Tensor:
        """(views, N, outputs) logits for every view in which ``config`` shows ``split``.

        Without a config, one view: the images as they are.
        """
        if run.trained_from and split.whole is not None:
            return self.logits(run, split.whole, config)[:, split.rows]
        images = _views(split, config)

        def answer(view: int) -> Tensor:
            if not run.trained_from:
                return predict(run.model, images, view=view, device=self.device)
            frozen, trained = run.model.split(run.trained_from)
            inputs = self.features(frozen, split, config)
            return predict(trained, inputs, view=view, device=self.device)

        weights = run.network and digest([run.network, run.weights])
        return torch.stack(self._each_view("logits", weights, split, images, answer))

    def features(
        self,
        frozen: nn.Sequential,
        split: Split,
        config: TrainConfig | None = None,
        first: int | None = None,
    ) -> CachedFeatures:
        """What frozen stages make of every view: the same for every head, method and seed.

        Views are those in which ``config`` shows ``split``; without it, the images as they are. Of
        a part of a split they are rows of the whole, whose features others need as well. With
        ``first``, the outputs of the first so many stages are kept too, for whoever will need them:
        a later config that trains more stages.
        """
        if split.whole is not None:
            whole = self.features(frozen, split.whole, config, first)
            return CachedFeatures([view[split.rows] for view in whole.features], whole.names)
        images = _views(split, config)
        weights = digest([*map(self._digest, frozen), description(frozen)])
        key = (weights, split.fingerprint, images.names)
        if key not in self._features:

            def answer(view: int) -> Tensor:
                if first is None or first >= len(frozen):
                    return predict(frozen, images, view=view, device=self.device)
                inputs = self.features(frozen[:first], split, config)
                return predict(frozen[first:], inputs, view=view, device=self.device)

            outputs = self._each_view("features", weights, split, images, answer)
            self._features[key] = CachedFeatures(outputs, images.names)
        return self._features[key]

    def _digest(self, stage: nn.Module) -> str:
        """`weights_digest`, which reads every byte, of a stage that changed since the last time."""
        state = [(id(t), t._version) for t in stage.state_dict(keep_vars=True).values()]
        seen, found = self._digests.get(stage, (None, ""))
        if seen != state:
            found = weights_digest(stage)
            self._digests[stage] = state, found
        return found

    def _each_view(
        self, kind: str, weights: str, split: Split, images: Views, answer: Callable[[int], Tensor]
    ) -> list[Tensor]:
        """One answer for each view; those of a network that has no description are not kept."""
        if not weights:
            return [answer(view) for view in range(len(images.names))]
        views = []
        for view, name in enumerate(images.names):
            address = {
                "code": code_fingerprint(),
                "weights": weights,
                "images": split.fingerprint,
                "view": name,
                "precision": precision(),
            }
            key = f"{kind}-{digest(address)}"
            entry = self.store.get(key)
            if entry is None:
                views.append(answer(view))
                self.store.keep(key, {kind: views[-1]}, address)
            else:
                views.append(entry.tensors[kind])
        return views


def _views(split: Split, config: TrainConfig | None) -> Views:
    return views_of(split, config) if config else TranslatedImages(split.images)
