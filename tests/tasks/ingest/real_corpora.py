"""The `corpus:` sections of the real subsets, but for their root."""

from __future__ import annotations

from typing import Any

CORPORA: dict[str, dict[str, Any]] = {
    "hyper-kvasir": {"adapter": "hyper-kvasir", "split": {"official": "2_fold_split.csv"}},
    "imo-fundus": {
        "adapter": "table",
        "modality": "fundus",
        "table": {
            "csv": "labels.csv",
            "images": "images",
            "image": "Name",
            "label": "DR",
            "unlabelled": ["-"],
            "patient_pattern": r"(\d+)_",
        },
    },
    "chestx-ray14": {
        "adapter": "table",
        "modality": "xray",
        "table": {
            "csv": "Data_Entry_2017.csv",
            "image": "Image Index",
            "label": "Finding Labels",
            "patient": "Patient ID",
            "split_lists": {"train": "train_val_list.txt", "test": "test_list.txt"},
        },
    },
}
