"""Tasks from label schemes, losses, and ways to weigh them."""

from affectus.objectives.tasks import RealLoss, Task, TaskKind, available_tasks, choose_tasks
from affectus.objectives.weighing import Weighing

__all__ = ["RealLoss", "Task", "TaskKind", "Weighing", "available_tasks", "choose_tasks"]
