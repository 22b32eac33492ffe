"""Tasks: a dataset, a teacher, a student and their training configs."""

from kdnb.tasks.config import SubclassConfig, Task
from kdnb.tasks.custom import custom_task
from kdnb.tasks.registry import TASKS, task

__all__ = ["TASKS", "SubclassConfig", "Task", "custom_task", "task"]
