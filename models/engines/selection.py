"""Selection of an engine: the one with which the work is expected to end first, of those that agree with float32.

Engines differ by up to nine times and none is the fastest everywhere. The reference is the network in float32. Another
engine is measured when the time that it is expected to save is more than its trial costs (`models.engines.trial_rule`):
with little work nothing is measured, with much everything that may be faster. An engine that disagrees with the
reference is not used however fast it is (`models.engines.agreement`).

Selection has two parts, so that the measuring can go on beside the work: `first_engine` opens the reference and says
whether measuring is worth its time; `select_engine` measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from models.engines.agreement import MAX_DIVERGENCE
from models.engines.benchmark import EngineBenchmark, EngineChoice, EngineTrial, ImageSample, figures_of, usual_batch
from models.engines.engine import FLOAT32, Engine, EngineError, Network
from models.engines.experience import Experience
from models.engines.opening import missing, names, open_engine
from models.engines.trial_rule import Best, EngineFigures, Prospect, Work, next_trial

AUTO = "auto"

BATCH_S = 60.0
"""Work of fewer seconds takes the usual batch where nothing else is measured."""

_REFERENCES = (f"eager-{FLOAT32}", f"onnxruntime-{FLOAT32}", f"openvino-{FLOAT32}")


@dataclass(frozen=True)
class Wanted:
    """What an engine is selected for, and among which.

    Attributes:
        device: cpu or cuda.
        threads: CPU threads that one pass may use.
        passes: images of one worker's part of the work.
        workers: passes that run at once, each in a process of its own.
        engine: the only family allowed (eager, compile, openvino, onnxruntime), or auto.
        precision: the only precision allowed (float32, bfloat16, float16), or auto.
        batch: images in one call; None: measured.
        many: logits are of labels of their own (sigmoid), rather than of one class an image (softmax).
        max_divergence: bar for the mean total variation distance from the probabilities of float32.
    """

    device: str
    threads: int
    passes: int
    workers: int = 1
    engine: str = AUTO
    precision: str = AUTO
    batch: int | None = None
    many: bool = False
    max_divergence: float = MAX_DIVERGENCE


@dataclass
class Selected:
    """An engine that was selected, open.

    Attributes:
        worth_measuring: others are expected to save more time than measuring them takes.
        measured: what was learnt of the speed of each engine that was tried.
    """

    choice: EngineChoice
    engine: Engine
    worth_measuring: bool = False
    measured: dict[str, EngineFigures] = field(default_factory=dict)


def first_engine(
    network: Network, sample: ImageSample, wanted: Wanted, experience: Experience | None = None
) -> Selected | None:
    """The reference, timed roughly, where it is allowed; None where another engine was asked for by name.

    Raises:
        EngineError: nothing here can run the network.
    """
    name, allowed = _allowed(network, wanted)
    if network.call is not None:
        return Selected(
            EngineChoice(name, wanted.batch or usual_batch(network, wanted.device)), _open(network, name, wanted)
        )
    if name not in allowed:
        return None
    reference = _open(network, name, wanted)
    if allowed == [name] and wanted.batch is not None:
        return Selected(EngineChoice(name, wanted.batch), reference)
    benchmark = _benchmark(reference, sample, wanted, experience)
    choice = EngineChoice(name, benchmark.usual, benchmark.rate, limited=True)
    if worth_measuring(network, choice, wanted, experience):
        return Selected(choice, reference, worth_measuring=True)
    if benchmark.work_s >= BATCH_S:
        batch, rate = benchmark.best_batch(reference)
        choice = EngineChoice(name, batch, rate, limited=len(allowed) > 1)
    return Selected(choice, reference)


def worth_measuring(
    network: Network, choice: EngineChoice, wanted: Wanted, experience: Experience | None = None
) -> bool:
    """Whether engines that a choice left out are expected to save time in some work."""
    if not choice.limited or not choice.images_per_second:
        return False
    reference, allowed = _allowed(network, wanted)
    rates = {row.engine: row.images_per_second for row in choice.tried} | {choice.engine: choice.images_per_second}
    base = rates.get(reference)
    if not base:
        return False
    known = {row.engine for row in choice.tried if not row.why_not or row.divergence is not None} | {choice.engine}
    left = [name for name in allowed if name not in known]
    set_up_s = next((row.set_up_s or 0.0 for row in choice.tried if row.engine == choice.engine), 0.0)
    best = Best(choice.images_per_second, set_up_s)
    prospects = _prospects(network, left, reference, wanted, experience)
    return next_trial(prospects, Work(wanted.passes * wanted.workers, wanted.workers, base), best) is not None


def select_engine(
    network: Network, sample: ImageSample, wanted: Wanted, experience: Experience | None = None
) -> Selected:
    """Measure the engines that are worth it and take the fastest that agrees.

    Where the requested family or precision disagrees with float32, float32 is used instead, and `tried` says so.

    Args:
        sample: images of the work's kind; engines are compared on them.
        experience: what is known of engines on this kind of machine.

    Raises:
        EngineError: the requested engine cannot run this network here; the text says why and what to install.
    """
    first = first_engine(network, sample, wanted, experience)
    if first is not None and not first.worth_measuring:
        return first
    reference, allowed = _allowed(network, wanted)
    opened = first.engine if first is not None else _open(network, reference, wanted)
    benchmark = _benchmark(opened, sample, wanted, experience)
    selection = _Selection(benchmark, network, wanted, experience)
    try:
        selection.run(allowed)
    finally:
        selection.close_others()
    return selection.selected()


class _Selection:
    """The trials of one selection; keeps the best engine open."""

    def __init__(
        self, benchmark: EngineBenchmark, network: Network, wanted: Wanted, experience: Experience | None
    ) -> None:
        self.benchmark, self.network, self.wanted, self.experience = benchmark, network, wanted, experience
        self.rows: list[EngineTrial] = []
        self.measured: dict[str, EngineFigures] = {}
        self.best: tuple[EngineChoice, Engine, float] | None = None
        self.limited = False

    def run(self, allowed: Sequence[str]) -> None:
        reference = self.benchmark.reference.name
        left = list(allowed)
        if reference in left:
            left.remove(reference)
            self._try(reference)
        while left:
            if self.best is None:
                chosen = left[0]
            else:
                choice, _, set_up_s = self.best
                base = self.measured[reference].rate if reference in self.measured else self.benchmark.rate
                wanted = self.wanted
                work = Work(wanted.passes * wanted.workers, wanted.workers, base).after(self.benchmark.elapsed_s)
                prospects = _prospects(self.network, left, reference, wanted, self.experience)
                found = next_trial(prospects, work, Best(choice.images_per_second or base, set_up_s))
                if found is None:
                    break
                chosen = found.engine
            left.remove(chosen)
            self._try(chosen)
        for name in left:
            self.limited = True
            self.rows.append(EngineTrial(name, why_not="not tried: it is expected to cost more time than it saves"))
        if self.best is None:
            self._instead(allowed)

    def selected(self) -> Selected:
        assert self.best is not None
        choice, engine, _ = self.best
        choice = replace(choice, tried=tuple(self.rows), limited=self.limited)
        return Selected(choice, engine, measured=self.measured)

    def close_others(self) -> None:
        """Free the reference unless it was taken."""
        if self.best is None or self.best[1] is not self.benchmark.reference:
            self.benchmark.reference.close()

    def _try(self, name: str) -> None:
        choice, row, engine = self.benchmark.measure(name)
        self.rows.append(row)
        figures = figures_of(row)
        if figures is not None:
            self.measured[name] = figures
        if choice is None or engine is None:
            return
        if self.best is None or (choice.images_per_second or 0) > (self.best[0].images_per_second or 0):
            if self.best is not None and self.best[1] is not self.benchmark.reference:
                self.best[1].close()
            self.best = choice, engine, row.set_up_s or 0.0
        elif engine is not self.benchmark.reference:
            engine.close()

    def _instead(self, wanted: Sequence[str]) -> None:
        """Use float32, of the same family where it exists and was not among those requested."""
        if any(row.divergence is not None for row in self.rows):
            family, available = wanted[0].rpartition("-")[0], names(self.network, self.wanted.device)
            for name in dict.fromkeys([f"{family}-{FLOAT32}", self.benchmark.reference.name]):
                if name in available and name not in wanted and self.best is None:
                    self._try(name)
                    if self.best is not None:
                        self.rows = [
                            replace(row, why_not=f"{row.why_not}; {name} is used instead") if row.why_not else row
                            for row in self.rows
                        ]
        if self.best is None:
            raise EngineError("; ".join(row.why_not for row in self.rows))


def _allowed(network: Network, wanted: Wanted) -> tuple[str, list[str]]:
    """The reference, and the engines that are allowed; one requested by name is tried even if it is not available."""
    available = names(network, wanted.device)
    if network.call is not None:
        return available[0], available[:1]
    reference = next((name for name in _REFERENCES if name in available), None)
    if reference is None:
        raise EngineError(f"nothing here runs ONNX files; {missing('onnxruntime')}")
    found = [
        name
        for name in available
        if wanted.engine in (AUTO, name.rpartition("-")[0]) and wanted.precision in (AUTO, name.rpartition("-")[2])
    ]
    family = wanted.engine if wanted.engine != AUTO else "eager"
    return reference, found or [f"{family}-{wanted.precision if wanted.precision != AUTO else FLOAT32}"]


def _open(network: Network, name: str, wanted: Wanted) -> Engine:
    return open_engine(network, name, device=wanted.device, threads=wanted.threads)


def _benchmark(
    reference: Engine, sample: ImageSample, wanted: Wanted, experience: Experience | None
) -> EngineBenchmark:
    return EngineBenchmark(
        reference,
        sample,
        device=wanted.device,
        threads=wanted.threads,
        passes=wanted.passes,
        batch=wanted.batch,
        many=wanted.many,
        max_divergence=wanted.max_divergence,
        experience=experience or Experience(),
    )


def _prospects(
    network: Network, engines: Sequence[str], reference: str, wanted: Wanted, experience: Experience | None
) -> list[Prospect]:
    known, file = experience or Experience(), network.module is None
    return [known.prospect(name, reference, device=wanted.device, file=file) for name in engines]
