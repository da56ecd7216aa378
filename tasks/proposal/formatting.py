"""What people call the columns, values and files of a medical-image table; guesses, for a person to correct."""

from __future__ import annotations

import re

UNLABELLED = frozenset(
    ("-", "--", "?", "na", "n/a", "nan", "null", "unknown", "ungraded", "unlabelled", "unlabeled", "not graded", "-1")
)
NEGATIVE = frozenset(("no finding", "no findings", "normal", "negative", "healthy", "none"))
SEPARATORS = ("|", ";", ",")

LABEL = re.compile(
    r"label|level|grade|class|diagnos|\bdx\b|finding|categor|target|severity|stage|disease|\b(dr|dme|rdr|amd)\b"
    r"|retinopathy|findings|patholog",
    re.I,
)
ORDERED = re.compile(r"level|grade|stage|severity|score|diagnosis|\bdr\b|retinopathy", re.I)
PATIENT = re.compile(r"patient|subject|\bperson|\bcase\b|\bpid\b|\bmrn\b|participant", re.I)
NUMBERED = re.compile(r"id$|\bid\b|_id|number|code|exam|study|lesion", re.I)
SPLIT = re.compile(r"split|\bset\b|subset|partition|\bfold\b|usage|phase", re.I)
NO_LABEL = re.compile(
    r"\bage\b|patient|subject|\bsex\b|gender|birth|date|time|view|position|width|height|size|pixel|spacing|camera"
    r"|device|scanner|site\b|hospital|\beye\b|side|lateral|follow|quality|race|ethnic|\bid$|_id\b|url|path|file"
    r"|localization|dx_type",
    re.I,
)
ABOUT_PERSON = re.compile(r"\bage\b|age$|sex|gender|birth|race|ethnic|name$", re.I)

# Which augmentations make sense: the first kind with a word in the folder's, columns' or classes' names.
MODALITIES = {
    "xray": re.compile(r"chest|x-?ray|\bcxr|thora|pneumon|pneumothorax|cardiomegaly|no finding|effusion|mammo", re.I),
    "fundus": re.compile(r"fundus|retin|\bdr\b|\bdme\b|macul|glaucom|eyepacs|messidor|aptos|\bamd\b", re.I),
    "endoscopy": re.compile(r"endoscop|kvasir|polyp|colon|gastr|esophag|cecum", re.I),
    "skin": re.compile(r"derm|isic|skin|nevus|naevus|melanom|lesion", re.I),
    "histology": re.compile(r"histo|patholog(?!ic)|slide|patch|stain", re.I),
}
SIDED = re.compile(r"\b(left|right)\b", re.I)


def worded(name: str) -> str:
    """A column's name with its words apart, so that `patient_age` and `PatientAge` both hold `age`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_\-./]+", " ", name).strip()


def modality_of(*texts: str) -> str:
    """The kind of image that names speak of; `other` when they do not say."""
    text = " ".join(worded(t) for t in texts)
    return next((kind for kind, words in MODALITIES.items() if words.search(text)), "other")
