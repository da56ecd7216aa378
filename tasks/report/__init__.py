"""Report: one page a student for people, and its model card."""
