"""Cached logits of networks, computed once per weights, image and view, in the run store."""

from collections.abc import Sequence

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
    the unchanged images. For a part of a split, logits and features of staged networks are rows of
    the whole, whose features are also used elsewhere.
    """

    def __init__(self, store: Store, device: torch.device):
        self.store, self.device = store, device
        self._features: dict[tuple, CachedFeatures] = {}

    def logits(self, run: Run, split: Split, config: TrainConfig | None = None) -> Tensor:
        """(views, N, outputs) logits for every view of ``split``."""
        if run.trained_from and split.whole is not None:
            return self.logits(run, split.whole, config)[:, split.rows]
        frozen, model = run.model.split(run.trained_from) if run.trained_from else ([], run.model)
        weights = run.network and digest([run.network, run.weights])
        return torch.stack(self._outputs("logits", weights, frozen, model, split, config))

    def features(
        self,
        frozen: nn.Sequential,
        split: Split,
        config: TrainConfig | None = None,
        first: int = 0,
    ) -> CachedFeatures:
        """Outputs of frozen stages for every view: the same for every head, method and seed.

        The outputs of the first ``first`` stages are stored too, for configs that train more.
        """
        if split.whole is not None:
            whole = self.features(frozen, split.whole, config, first)
            return CachedFeatures([view[split.rows] for view in whole.features], whole.names)
        cut = first if first < len(frozen) else 0
        weights = digest([weights_digest(frozen), description(frozen)])
        names = _views(split, config).names
        key = (weights, split.fingerprint, names)
        if key not in self._features:
            parts = frozen[:cut], frozen[cut:]
            outputs = self._outputs("features", weights, *parts, split, config)
            self._features[key] = CachedFeatures(outputs, names)
        return self._features[key]

    def _outputs(
        self,
        kind: str,
        weights: str,
        frozen: nn.Sequential | Sequence,
        model: nn.Module,
        split: Split,
        config: TrainConfig | None,
    ) -> list[Tensor]:
        """Logits of ``model`` for the features of ``frozen`` stages, for each view of ``split``.

        Without such stages the images are its input. Without ``weights``, the digest of both,
        nothing is stored: the network has no description.
        """
        images, inputs, outputs = _views(split, config), None, []
        for view, name in enumerate(images.names):
            address = {
                "code": code_fingerprint(),
                "weights": weights,
                "images": split.fingerprint,
                "view": name,
                "precision": precision(),
            }
            key = f"{kind}-{digest(address)}"
            if weights and (entry := self.store.get(key)):
                outputs.append(entry.tensors[kind])
                continue
            if inputs is None:
                inputs = self.features(frozen, split, config) if len(frozen) else images
            outputs.append(predict(model, inputs, view=view, device=self.device))
            if weights:
                self.store.keep(key, {kind: outputs[-1]}, address)
        return outputs


def _views(split: Split, config: TrainConfig | None) -> Views:
    return views_of(split, config) if config else TranslatedImages(split.images)
