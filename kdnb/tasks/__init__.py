"""What is trained on what: a dataset, a teacher, a student and how each is trained."""

from kdnb.tasks.config import SubclassConfig, Task
from kdnb.tasks.custom import custom_task
from kdnb.tasks.registry import TASKS, task

__all__ = ["TASKS", "SubclassConfig", "Task", "custom_task", "task"]
