"""Sweeps of distillation over temperatures, weights and seeds."""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import product

import torch

from kdnb.experiment import distributed
from kdnb.experiment.experiment import Experiment
from kdnb.experiment.methods import ALONE, check_each, check_seeds, conventional
from kdnb.experiment.requests import RunRequest
from kdnb.experiment.results import Comparison
from kdnb.losses import check_soft_weight, check_temperature


def sweep(
    experiment: Experiment,
    temperatures: Sequence[float],
    soft_weights: Sequence[float],
    seeds: Sequence[int],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
) -> Comparison:
    """Conventional distillation at every temperature and weight, and the student alone.

    Small students are trained together (`Experiment.train_ahead`). Accuracies are those on the
    validation split, since a sweep serves to choose. Stored runs are not trained again, so a
    stopped sweep resumes when it is called again.

    Runs are trained by ``workers`` processes of this machine (None: one for each GPU), or
    by those of the Dask ``scheduler`` at this address. A watcher with a method ``sweep`` is then
    called with a `kdnb.experiment.results.SweepProgress` about twice a second.

    Raises ValueError before anything is trained where a number cannot be used or comes twice, and
    `kdnb.experiment.distributed.ClusterError`.
    """
    check_each("temperature", temperatures, check_temperature)
    check_each("soft_weight", soft_weights, check_soft_weight)
    check_seeds(seeds)
    if workers is not None and (workers < 1 or scheduler):
        raise ValueError(
            f"workers is a number of processes of this machine, at least 1 and without a "
            f"scheduler's address, got {workers}"
        )
    methods = [ALONE] + [
        conventional(float(t), float(w), f"T = {t:g}, soft_weight = {w:g}")
        for t, w in product(temperatures, soft_weights)
    ]
    requests = [RunRequest(seed, method) for seed in seeds for method in methods]
    gpus = torch.cuda.device_count() if experiment.device.type == "cuda" else 1
    most = 1 if scheduler else workers or gpus
    count = distributed.useful_workers(experiment, requests, most) if most > 1 else 1
    if scheduler or count > 1:
        local = nullcontext() if scheduler else distributed.local_cluster(experiment, count)
        with local as cluster, distributed.connected(scheduler or cluster) as client:
            print(f"Dask dashboard: {client.dashboard_link}", flush=True)
            report = getattr(experiment.watch, "sweep", lambda progress: None)
            distributed.train(client, experiment, requests, report)
    else:
        experiment.train_ahead(requests)
    return experiment.compare(methods, seeds, split="val")
