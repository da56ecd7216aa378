"""Losses on features of student and teacher: modules that are trained with the student and then dropped."""
