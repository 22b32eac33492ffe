"""Logits of networks, computed once per weights, image and view, and kept in the run store."""

from collections.abc import Callable

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
    of the images and the view. Views are those in which a config shows a split; without a config,
    the images as they are. Of a part of a split, logits and features of staged networks are rows of
    the whole, whose features others need as well.
    """

    def __init__(self, store: Store, device: torch.device):
        self.store, self.device = store, device
        self._features: dict[tuple, CachedFeatures] = {}

    def logits(self, run: Run, split: Split, config: TrainConfig | None = None) -> Tensor:
        """(views, N, outputs) logits for every view of ``split``."""
        if run.trained_from and split.whole is not None:
            return self.logits(run, split.whole, config)[:, split.rows]
        model, inputs = run.model, _views(split, config)
        weights = run.network and digest([run.network, run.weights])

        def compute(view: int) -> Tensor:
            if not run.trained_from:
                return predict(model, inputs, view=view, device=self.device)
            frozen, trained = model.split(run.trained_from)
            features = self.features(frozen, split, config)
            return predict(trained, features, view=view, device=self.device)

        return torch.stack(self._each_view("logits", weights, split, inputs, compute))

    def features(
        self,
        frozen: nn.Sequential,
        split: Split,
        config: TrainConfig | None = None,
        first: int | None = None,
    ) -> CachedFeatures:
        """Outputs of frozen stages for every view: the same for every head, method and seed.

        With ``first``, the outputs of the first so many stages are kept too, for a later config
        that trains more stages.
        """
        if split.whole is not None:
            whole = self.features(frozen, split.whole, config, first)
            return CachedFeatures([view[split.rows] for view in whole.features], whole.names)
        inputs = _views(split, config)
        weights = digest([weights_digest(frozen), description(frozen)])
        key = (weights, split.fingerprint, inputs.names)

        def compute(view: int) -> Tensor:
            if first is None or first >= len(frozen):
                return predict(frozen, inputs, view=view, device=self.device)
            features = self.features(frozen[:first], split, config)
            return predict(frozen[first:], features, view=view, device=self.device)

        if key not in self._features:
            outputs = self._each_view("features", weights, split, inputs, compute)
            self._features[key] = CachedFeatures(outputs, inputs.names)
        return self._features[key]

    def _each_view(
        self, kind: str, weights: str, split: Split, inputs: Views, compute: Callable[[int], Tensor]
    ) -> list[Tensor]:
        """One tensor for each view; those of a network that has no description are not kept."""
        outputs = []
        for view, name in enumerate(inputs.names):
            address = {
                "code": code_fingerprint(),
                "weights": weights,
                "images": split.fingerprint,
                "view": name,
                "precision": precision(),
            }
            key = f"{kind}-{digest(address)}"
            entry = self.store.get(key) if weights else None
            outputs.append(entry.tensors[kind] if entry else compute(view))
            if weights and not entry:
                self.store.keep(key, {kind: outputs[-1]}, address)
        return outputs


def _views(split: Split, config: TrainConfig | None) -> Views:
    return views_of(split, config) if config else TranslatedImages(split.images)
