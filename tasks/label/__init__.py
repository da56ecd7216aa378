"""The label stage: teachers' logits of every view, stored once for any number of students."""

from tasks.label.job import STAGE, VERSION
from tasks.label.stage import TeacherHandle, label, teacher_handle

__all__ = ["STAGE", "VERSION", "TeacherHandle", "label", "teacher_handle"]
