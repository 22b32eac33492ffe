"""What is trained on what: a dataset, a teacher, a student and how each is trained."""

from kdnb.tasks.custom import custom_task
from kdnb.tasks.tasks import TASKS, SubclassConfig, Task, task

__all__ = ["TASKS", "SubclassConfig", "Task", "custom_task", "task"]
