"""How the networks of notebook 00's pad read hands that took no part: 40,000 images of the audit.

    KDNB_DATA=/path/to/datasets .venv/bin/python report/reference/pad_on_audit.py

The networks are those of the page, with weights of eight bits. Needs MNIST's files.
"""

import torch

from kdnb.course.interactive.pad import EightBit
from kdnb.data import mnist_small
from kdnb.data.augmentation import TranslatedImages
from kdnb.evaluation.metrics import accuracy
from kdnb.experiment import Experiment
from kdnb.experiment.methods import ALONE, conventional
from kdnb.tasks import task
from kdnb.training.predict import predict


def main() -> None:
    lab, audit = Experiment(task("mnist-small")), mnist_small.audit()
    light = lab.with_student(dict(lab.task.sizes.students)["128-128"], next_stage=None)
    methods = ALONE, conventional(lab.task.temperature, lab.task.soft_weight)
    for run in (lab.teacher(0), *(light.student(method, 0) for method in methods)):
        module, images = EightBit(run.model).module, TranslatedImages(audit.images)
        right = accuracy(predict(module, images, device=torch.device("cpu")), audit.labels)
        print(f"{run.label}: {100 * right:.2f} % of {len(audit):,} images")


if __name__ == "__main__":
    main()
