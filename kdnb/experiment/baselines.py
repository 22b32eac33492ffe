"""Plain baselines by scikit-learn, without a network or a teacher.

Grey images are classified by their pixels, with nearest neighbours and a support vector machine.
Colour images are classified by their colours alone: on the generated polyps' validation images,
neighbours and an SVM on the pixels were no better than the majority.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from kdnb.data import Split
from kdnb.data.dataset import stratified_indices
from kdnb.evaluation.metrics import match_subclasses
from kdnb.experiment.experiment import Experiment
from kdnb.fingerprint import code_fingerprint
from kdnb.store.store import digest

WIDEST = 32  # pixels: larger grey images are averaged down to this, or an SVM would take hours
BINS = 8  # of each colour channel
MAJORITY = "majority"
# Chosen on validation images (`report/reference/selection.py`); an SVM has an RBF kernel.
SVM = {"C": 3.0, "gamma": 0.02}
AT_MOST = 10_000  # images for an SVM, whose time grows with their square
NEIGHBOURS = {"n_neighbors": 1, "weights": "uniform"}


def baselines(
    experiment: Experiment, split: str = "test", train: Split | None = None
) -> dict[str, Tensor]:
    """(N,) bool by label: which images of ``split`` each baseline classifies correctly.

    They are trained on ``train``, by default on the images that students see.
    In a balanced task every class has the same weight. Predictions are kept in the run store.
    """
    train, images = train or experiment.transfer, getattr(experiment.dataset, split)
    names, correct = experiment.dataset.class_names, {}
    for label, fitted in _classifiers(train, experiment.task.balanced).items():
        predicted = _kept(experiment, [label, experiment.task.balanced], train, images, fitted)
        if label == MAJORITY:
            label = f"always {names[predicted[0]]} ({MAJORITY})"
        correct[label] = predicted == images.labels
    return correct


def _classifiers(train: Split, balanced: bool) -> dict[str, Callable[[Split, Split], Tensor]]:
    """By label, the models that are fitted to one split and predict the classes of another."""
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics.pairwise import rbf_kernel
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    weights = {"class_weight": "balanced" if balanced else None}
    models = {MAJORITY: (DummyClassifier(strategy="most_frequent"), _pixels)}
    if train.images.shape[1] == 1:
        nearest = min(NEIGHBOURS["n_neighbors"], len(train))
        neighbours = KNeighborsClassifier(**{**NEIGHBOURS, "n_neighbors": nearest})
        label = "nearest neighbour" if nearest == 1 else f"{nearest} nearest neighbours"
        models[label] = (neighbours, _pixels)
        label = "SVM" if len(train) <= AT_MOST else f"SVM on {AT_MOST:,} images"
        # Called, a kernel is a product of matrices: four times as fast as libsvm's own loop.
        kernel = partial(rbf_kernel, gamma=SVM["gamma"])
        models[label] = (SVC(C=SVM["C"], kernel=kernel, **weights), _pixels)
    else:
        regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000, **weights))
        models["colour histogram"] = (regression, _histograms)

    def fitted(model: object, features: Callable[[Tensor], Tensor]) -> Callable:
        def predict(train: Split, images: Split) -> Tensor:
            if isinstance(model, SVC) and len(train) > AT_MOST:
                train = train.take(*stratified_indices(train.labels, (AT_MOST,), seed=0))
            model.fit(features(train.images).numpy(), train.labels.numpy())
            parts = features(images.images).split(1_000)  # for the memory of a kernel's matrix
            return torch.cat([torch.from_numpy(model.predict(part.numpy())) for part in parts])

        return predict

    return {label: fitted(*model) for label, model in models.items()}


def kmeans_recovered(
    experiment: Experiment, subclasses: int, split: str = "test", train: Split | None = None
) -> float:
    """Share of true subclasses that k-means on the pixels recovers, as `match_subclasses` counts.

    ``train`` and the assignment to clusters are as for `kmeans`.
    """
    images, true = getattr(experiment.dataset, split), len(experiment.dataset.subclass_names)
    clusters = kmeans(experiment, subclasses, split, train)
    return match_subclasses(clusters, images.subclasses, true).recovered


def kmeans(
    experiment: Experiment, subclasses: int, split: str = "test", train: Split | None = None
) -> Tensor:
    """(N, C·s) int64, 1 where an image of ``split`` lies in a cluster and else 0.

    Each class of the teacher's training images, or of ``train``, has s clusters. An image of
    ``split`` belongs to the nearest centre of its *true* class, which flatters k-means: 75 % on
    5,000 images of MNIST, where the nearest of all centres gives 68 %.
    """
    train, images = train or experiment.dataset.train, getattr(experiment.dataset, split)

    def nearest(train: Split, images: Split) -> Tensor:
        from sklearn.cluster import KMeans

        invented = torch.empty_like(images.labels)
        for label in images.labels.unique().tolist():
            known, asked = (_pixels(s.images[s.labels == label]).numpy() for s in (train, images))
            clusters = KMeans(subclasses, n_init=10, random_state=0).fit(known)
            of_class = torch.from_numpy(clusters.predict(asked)).long() + subclasses * label
            invented[images.labels == label] = of_class
        return invented

    invented = _kept(experiment, ["k-means", subclasses], train, images, nearest)
    return F.one_hot(invented, subclasses * experiment.num_classes)


def _kept(
    experiment: Experiment, method: list, train: Split, images: Split,
    predict: Callable[[Split, Split], Tensor],
) -> Tensor:  # fmt: skip
    """(N,) int64 predictions of ``predict`` for ``images``, from the run store if available."""
    import sklearn

    address = {
        "code": code_fingerprint(),
        "scikit-learn": sklearn.__version__,
        "method": method,
        "train": train.fingerprint,
        "images": images.fingerprint,
    }
    key = f"baseline-{digest(address)}"
    if (entry := experiment.store.get(key)) is not None:
        return entry.tensors["predicted"]
    predicted = predict(train, images)
    experiment.store.keep(key, {"predicted": predicted}, address)
    return predicted


def _pixels(images: Tensor) -> Tensor:
    """(N, C·H·W) float32 in [0, 1]; of images wider than `WIDEST` averages of their pixels."""
    size = [min(side, WIDEST) for side in images.shape[2:]]
    return F.adaptive_avg_pool2d(images / 255, size).flatten(1)


def _histograms(images: Tensor) -> Tensor:
    """(N, C·BINS) float32: the share of an image's pixels in each bin of each channel."""
    bins = (images // (256 // BINS)).flatten(2)
    counts = torch.stack([(bins == b).sum(2) for b in range(BINS)], 2)
    return (counts / bins.shape[2]).flatten(1)
