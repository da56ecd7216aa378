"""What runs when: one Prefect flow a file, the command line, and the specs of the demo."""
