"""Text output of verify, repair, gc, forget and inspect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.data.catalog import SPLITS
from tasks.maintenance.repair import LEFT, RepairReport
from tasks.maintenance.verify import VerifyReport

BAR = 32
MOST = 20
_HISTOGRAMS = {"width": "source width, px", "height": "source height, px", "image_bytes": "bytes of an image"}
_UNITS = ("B", "kB", "MB", "GB", "TB")


def format_bytes(count: float) -> str:
    """Bytes with three significant digits and a decimal unit."""
    unit = 0
    while count >= 999.5 and unit < len(_UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.3g} {_UNITS[unit]}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + "s" * (count != 1)


def verify_lines(report: VerifyReport) -> list[str]:
    """One line for each defect, then a summary line."""
    lines = [defect.line for defect in report.defects]
    state = "everything is as written"
    if lines:
        state = f"{_many(len(lines), 'defect')}; stillroom repair makes whole what it can"
    strays = ""
    if report.strays:
        strays = f"; no manifest names {_many(report.strays, 'object')} ({format_bytes(report.stray_bytes)})"
    return [*lines, f"{report.objects} objects, {format_bytes(report.bytes)} read: {state}{strays}"]


def repair_lines(done: RepairReport) -> list[str]:
    """One line for each object, then a summary line."""
    lines = [f"{action.action:<8} {action.object}: {action.detail}" for action in done.actions]
    left = sum(action.action == LEFT for action in done.actions)
    if not done.defects:
        return ["everything is as written; nothing to repair"]
    return [*lines, f"{_many(len(done.defects), 'defect')}: " + (f"{left} left" if left else "none left")]


def removal_lines(plan: Mapping[str, Any]) -> list[str]:
    """What was or would be removed, by kind."""
    lines = [
        f"  {kind:<12} {count['objects']:>8} {format_bytes(count['bytes']):>10}"
        for kind, count in plan["kinds"].items()
    ]
    kept = f"{plan['kept']['objects']} objects, {format_bytes(plan['kept']['bytes'])} stay"
    if plan["deleted"] and plan["under_way"]:
        waits = f"{', '.join(plan['under_way'])}: under way, or killed within the last hour; run gc again after it"
        return [*(["removed before it:", *lines] if lines else ["nothing was removed"]), waits]
    if not lines:
        return [f"nothing to remove; {kept}"]
    if plan["deleted"]:
        return ["removed:", *lines, f"{format_bytes(plan['bytes'])} freed; {kept}"]
    return ["would go:", *lines, f"{format_bytes(plan['bytes'])}; {kept}. Nothing was removed: --delete does it"]


def forget_lines(done: Mapping[str, Any]) -> list[str]:
    """What was or would be erased, and who learned of it."""
    if not done["corpora"]:
        return ["nothing is left to erase"]
    lines = []
    for each in done["corpora"]:
        images, shards = _many(each["images"], "image"), _many(each["shards"], "shard")
        lines.append(f"{each['title']}: {images} in {shards} " + ("erased" if done["done"] else "would be erased"))
        if each["labels_kept"] or each["labels_again"]:
            kept = _many(each["labels_kept"], "soft label")
            lines.append(f"  {kept} of other images in them stay; the next run makes {each['labels_again']} again")
        if done["done"] and each["private"]:
            lines.append("  details of earlier errors on this machine went too; look on others that ingested")
    if done["done"]:
        lines.append(f"{done['removed']['objects']} objects removed, {format_bytes(done['removed']['bytes'])}")
    lines += [f"{name}: a teacher's table with rows of them; take them out of your file too" for name in done["tables"]]
    if done["versions"]:
        named = ", ".join(f"{each['name']} version {each['version']}" for each in done["versions"])
        lines.append(f"registered models that learned of them: {named}")
    if done["models"]:
        named = ", ".join(f"{each['arm']} seed {each['seed']}" for each in done["models"][:MOST])
        more = f" and {len(done['models']) - MOST} more" if len(done["models"]) > MOST else ""
        lines.append(f"trained networks that learned of them: {named}{more}; weights stay until gc or you remove them")
    else:
        lines.append("no network in the store learned of them")
    return lines


def inspect_lines(found: Mapping[str, Any]) -> list[str]:
    """What `inspect` found."""
    return _BY_KIND[found["kind"]](found)


def _store(found: Mapping[str, Any]) -> list[str]:
    lines = [line for corpus in found["corpora"] for line in _corpus(corpus)]
    if found["kind"] == "corpus":
        return lines
    if not lines:
        lines = ["no corpus was ingested here", ""]
    lines.append("stages")
    for stage in found["stages"][:MOST]:
        lines.append(f"  {stage['about']:<48} {stage['outputs']:>6} outputs {format_bytes(stage['bytes']):>10}")
    if len(found["stages"]) > MOST:
        lines.append(f"  {len(found['stages']) - MOST} more with --json")
    lines += ["", "folders"]
    for name, count in found["folders"].items():
        lines.append(f"  {name:<12} {count['objects']:>8} {format_bytes(count['bytes']):>10}")
    lines += ["", f"{found['objects']} objects, {format_bytes(found['bytes'])}; no manifest names {found['strays']}"]
    return lines + [f"damaged: {name}" for name in found["damaged"]]


def _corpus(corpus: Mapping[str, Any]) -> list[str]:
    private = ", private: keys and patients are keyed hashes" if corpus["private"] else ""
    lines = [
        f"corpus {corpus['corpus']}: {corpus['modality']}, {corpus['task']}{private}",
        f"  manifest {corpus['manifest'][:12]}, {corpus['shards']} shards, {format_bytes(corpus['shard_bytes'])}",
        "",
        *_table(["", *SPLITS], _counts(corpus)),
        "",
        f"  {corpus['unlabelled']} unlabelled, {corpus['leaks']} leaks, {corpus['missing']} labels without an image",
        f"  {corpus['quarantined']} quarantined" + (":" if corpus["quarantine"] else ""),
    ]
    shown = list(corpus["quarantine"].items())[:MOST]
    lines += [f"    {count:>6}  {reason}" for reason, count in shown]
    for name, title in _HISTOGRAMS.items():
        lines += ["", f"  {title}", *_bars(corpus[name])]
    return [*lines, ""]


def _counts(corpus: Mapping[str, Any]) -> list[list[str]]:
    counts, images = corpus["counts"], corpus["images"]
    rows = [[name, *(str(counts.get(s, {}).get(name, 0)) for s in SPLITS)] for name in corpus["classes"][:MOST]]
    if len(corpus["classes"]) > MOST:
        rows.append([f"{len(corpus['classes']) - MOST} more", *([""] * len(SPLITS))])
    return [*rows, ["images", *(str(images[s]) for s in SPLITS)]]


def _bars(values: Mapping[str, Any]) -> list[str]:
    if not values["counts"]:
        return ["    none"]
    most, width = max(values["counts"]), len(str(values["edges"][-1]))
    return [
        f"    {low:>{width}} to {high - 1:>{width}} {'#' * round(BAR * count / most):<{BAR}} {count}"
        for low, high, count in zip(values["edges"], values["edges"][1:], values["counts"], strict=False)
    ]


def _shard(found: Mapping[str, Any]) -> list[str]:
    samples = found["samples"]
    bad = sum(not sample["whole"] for sample in samples)
    rows = [[s["key"], s["class"], s["patient"], str(s["bytes"]), "ok" if s["whole"] else "DAMAGED"] for s in samples]
    return [
        f"{found['name']}: {found['split']} of {found['corpus']}, {format_bytes(found['bytes'])}",
        "",
        *_table(["key", "class", "patient", "bytes", "crc"], rows),
        "",
        f"{len(samples)} samples" + (f", {bad} damaged; stillroom repair" if bad else ", all crcs right"),
    ]


def _image(found: Mapping[str, Any]) -> list[str]:
    lines = [f"{found['key']} of {found['corpus']}: {found['class'] or 'no label'}", ""]
    lines += [f"  {name:<14} {value}" for name, value in found["catalog"].items() if value not in (None, "")]
    shard = found["shard"]
    if shard is None:
        return [*lines, "", "  in no shard"]
    state = "crc right" if shard["whole"] else "DAMAGED; stillroom repair"
    lines += ["", f"  {shard['file']} at {shard['offset']}, {shard['bytes']} bytes, {state}", f"  {shard['name']}"]
    for soft in found["soft_labels"]:
        top = ", ".join(f"{name} {value:.3f}" for name, value in soft["top"])
        mixed = f", mixed with {soft['partner']}" if soft["partner"] is not None else ""
        stored = f"; features {_shape(soft['features'])}" if soft["features"] is not None else ""
        answer = f"{top}{stored}" if soft["valid"] else "not valid"
        lines.append(f"  teacher {soft['teacher']}, view {soft['view']}{mixed}: {answer}")
    return lines


def _soft(found: Mapping[str, Any]) -> list[str]:
    confidence = found["mean_confidence"]
    lines = [
        f"{found['name']}: teacher {found['teacher']}, view {found['view']} of a {found['split']} shard",
        f"  {found['shape'][0]} rows of {found['shape'][1]} logits, {found['invalid']} not valid, "
        f"{format_bytes(found['bytes'])}" + (f", mean confidence {confidence:.3f}" if confidence is not None else ""),
    ]
    if found["mixed"] is not None:
        lines.append(f"  {found['mixed']} of {found['shape'][0]} rows mixed with a partner of the shard")
    if found["features"] is not None:
        lines.append(f"  features {_shape(found['features'])}")
    lines += ["", "  likeliest class"]
    most = max(1, *found["classes"].values())
    width = max(len(name) for name in found["classes"])
    for name, count in found["classes"].items():
        lines.append(f"    {name:<{width}} {'#' * round(BAR * count / most):<{BAR}} {count}")
    shown = ["key", "partner", "logits"] if found["mixed"] is not None else ["key", "logits"]
    rows = [{**row, "partner": row["partner"] or "-", "logits": _numbers(row["logits"])} for row in found["rows"]]
    return [*lines, "", *_table(shown, [[row[name] for name in shown] for row in rows])]


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)


def _shape(sides: Sequence[int]) -> str:
    return " x ".join(str(side) for side in sides)


def _object(found: Mapping[str, Any]) -> list[str]:
    return [f"  {name:<10} {value}" for name, value in found.items() if name != "kind"]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[n]) for row in [head, *rows]) for n in range(len(head))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
    return [f"  {line}".rstrip() for line in lines]


_BY_KIND = {
    "store": _store,
    "corpus": _store,
    "shard": _shard,
    "image": _image,
    "soft_labels": _soft,
    "object": _object,
}
