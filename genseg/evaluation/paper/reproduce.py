"""Reproduce a paper's tables: evaluate each row and compare it with the published score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from genseg.errors import GensegError, unknown
from genseg.evaluation.datasets import Dataset, load_dataset
from genseg.evaluation.datasets.catalogue import READERS
from genseg.evaluation.datasets.files import absent
from genseg.evaluation.evaluate import Plan, ProgressCallback, evaluate
from genseg.evaluation.paper.published import PAPERS, PublishedRow, Table
from genseg.evaluation.paper.result import Reproduction, described, measured
from genseg.evaluation.results import Evaluation
from genseg.recipe import RecipeLike, load_recipe
from genseg.registry import BACKENDS, EMBEDDERS, ENCODERS, load_backend


class TableEvaluation(NamedTuple):
    """One evaluation, with the scores of one or several rows on the same images.

    Attributes:
        dataset: Name of the dataset.
        resolution: Resolution of the table.
        encoder: Encoder in place of the backend; None for the backend.
        embedder: Embedder that names the masks of the evaluation without embedder; None for no embedder.
    """

    dataset: str
    resolution: str
    encoder: str | None
    embedder: str | None

    @property
    def folder(self) -> str:
        """Name of its folder."""
        return "-".join(part for part in self if part)


class Requested(NamedTuple):
    """Methods and protocols of an evaluation, in order. ``oracle``, an upper bound, is always among the protocols."""

    methods: dict[str, None]
    protocols: dict[str, None]


@dataclass
class Reproducer:
    """Reproduces a paper's tables.

    Datasets are opened and each model is loaded once at the start, so that rows that cannot be run are known before
    the first image.

    Args:
        paper: One of `genseg.evaluation.paper.published.PAPERS`.
        root: A folder with a folder for each dataset, named after it.
        tables: Numbers of the tables; empty for all.
        backend: Name of the generative model; None for the paper's.
        recipe: A preset's name, a YAML file, a mapping or a `Recipe`.
        options: Recipe keys as ``key=value``.
        limit: Upper bound of the number of images of each dataset, evenly spaced; None for all.
        weights: Checkpoints or hub ids of encoders and embedders by name, in place of their own.
        seed: Fixes every random draw.
        model: A local checkpoint or hub id in place of the backend's own.
        device: A torch device; None for CUDA if it is available, else the CPU.
        dtype: ``"float32"`` (the default), ``"float16"``, ``"bfloat16"`` or ``"auto"``.
        load: Further options of the backend's factory.

    Attributes:
        jobs: The evaluations that will be run, with their numbers of images.
        why: The other evaluations, with the reason why they cannot be run.

    Raises:
        GensegError: If a name is unknown, the recipe is invalid, or no row can be run.
    """

    paper: str
    root: str | Path
    tables: Sequence[int] = ()
    backend: str | None = None
    recipe: RecipeLike = "paper"
    options: Sequence[str] = ()
    limit: int | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    load: Mapping[str, Any] = field(default_factory=dict)
    jobs: dict[TableEvaluation, int] = field(init=False, default_factory=dict)
    why: dict[TableEvaluation, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.paper not in PAPERS:
            raise unknown("paper", self.paper, PAPERS)
        self._paper = PAPERS[self.paper]
        if other := [number for number in self.tables if number not in self._paper.tables]:
            raise GensegError(f"{self.paper} has the tables {', '.join(map(str, self._paper.tables))}, not {other[0]}")
        self._tables = {n: table for n, table in self._paper.tables.items() if n in self.tables or not self.tables}
        self._backend = self.backend or self._paper.backend
        BACKENDS.info(self._backend)
        load_recipe(self.recipe, options=self.options)
        parts = {part for job in _jobs(self._paper.tables.values()) for part in (job.encoder, job.embedder) if part}
        for name in self.weights:
            if name not in parts:
                raise unknown("encoder or embedder of the tables", name, parts)
        self._requested = _jobs(self._tables.values())
        self._open()

    def run(self, out: str | Path, progress: ProgressCallback | None = None) -> Reproduction:
        """Run all evaluations that can be run.

        Args:
            out: A folder with a folder for each evaluation, from which an interrupted run resumes.
            progress: Progress callback; see `genseg.evaluation.evaluate.ProgressCallback`. Keys are preceded by the
                evaluation's folder.

        Returns:
            All rows of the tables, including those without a score.
        """
        done: dict[TableEvaluation, Evaluation] = {}
        failed: dict[TableEvaluation, str] = {}
        for job in self.jobs:
            try:
                done[job] = self._evaluated(job, Path(out), progress or (lambda *_: None))
                done[job].save(Path(out) / job.folder)
            except GensegError as error:
                failed[job] = str(error)
        tables = {}
        for number, table in self._tables.items():
            rows = []
            for row in table.rows:
                job = _job(table, row)
                facts = described(table, row, job.folder)
                if why := row.foreign or self.why.get(job):
                    facts["why"] = why
                else:
                    facts |= measured(done[job], table, row) if job in done else {"why": failed[job]}
                    facts["failed"] = bool(facts["why"])
                rows.append(facts)
            evaluations = {job: done[job] for job in _jobs([table]) if job in done}
            notes = [*table.notes, *self._notes(evaluations)]
            tables[number] = {"title": table.title, "notes": notes, "rows": rows}
        return Reproduction(self._paper.source, tables)

    def _open(self) -> None:
        """Open the datasets, load each model once, and decide which evaluations can be run."""
        sets: dict[str, Dataset] = {}
        problems: dict[str, str] = {}
        for name in dict.fromkeys(job.dataset for job in self._requested):
            place = Path(self.root) / name
            try:
                if not place.is_dir():
                    raise absent(READERS[name].info, place)
                sets[name] = load_dataset(name, place)
            except GensegError as error:
                problems[name] = str(error)
        if not sets:
            incomplete = [problem for name, problem in problems.items() if (Path(self.root) / name).is_dir()]
            none = (
                f"{self.root} has none of the folders {', '.join(problems)}; unpack one of these datasets there, "
                "'genseg datasets' says what to fetch"
            )
            raise GensegError(incomplete[0] if incomplete else none)
        self._sets = sets
        needed = [job for job in self._requested if job.dataset in sets]
        problems |= self._models_missing(needed)
        for job in self._requested:
            parts = (job.dataset, job.encoder or self._backend, job.embedder)
            if why := next((problems[part] for part in parts if part in problems), None):
                self.why[job] = why
        runnable = [job for job in self._requested if job not in self.why]
        named = {job._replace(embedder=None) for job in runnable if job.embedder}
        for job in runnable:
            methods, protocols = map(list, self._requested[job])
            if len(protocols) > 1 or job in named:  # else its masks would be for rows that cannot be run
                plan = Plan(
                    sets[job.dataset], methods, protocols, job.resolution, self.limit, named=job.embedder is not None
                )
                self.jobs[job] = len(plan.keys)
        if not self.jobs:
            raise GensegError(f"no row can be run: {next(self.why[job] for job in needed if job in self.why)}")

    def _models_missing(self, jobs: Sequence[TableEvaluation]) -> dict[str, str]:
        """Load each backend, encoder and embedder, and return the reasons of failure by name."""
        problems: dict[str, str] = {}
        if any(job.encoder is None for job in jobs):
            try:
                load_backend(self._backend, model=self.model, device=self.device, dtype=self.dtype, **self.load)
            except GensegError as error:
                problems[self._backend] = str(error)
        for kind, load in (("encoder", ENCODERS.load), ("embedder", EMBEDDERS.load)):
            for name in dict.fromkeys(getattr(job, kind) for job in jobs if getattr(job, kind)):
                try:
                    load(name, model=self.weights.get(name), device=self.device)
                except GensegError as error:
                    problems[name] = f"{error} (weights: {name}=CHECKPOINT)"
        return problems

    def _evaluated(self, job: TableEvaluation, out: Path, progress: ProgressCallback) -> Evaluation:
        def on_progress(key: str, *stage: Any) -> None:
            progress(f"{job.folder}/{key}", *stage)

        requested = self._requested[job]
        models: dict[str, Any] = {"backend": self._backend, "model": self.model, "load": self.load}
        if job.encoder:
            models = {"encoder": job.encoder, "model": self.weights.get(job.encoder)}
        if job.embedder:
            models |= {"embedder": job.embedder, "embedder_model": self.weights.get(job.embedder)}
            models |= {"masks": out / job._replace(embedder=None).folder}
        return evaluate(
            self._sets[job.dataset], out / job.folder, methods=[*requested.methods], protocols=[*requested.protocols],
            resolution=job.resolution, limit=self.limit, recipe=self.recipe, options=self.options, seed=self.seed,
            device=self.device, dtype=self.dtype, progress=on_progress, **models,
        )  # fmt: skip

    def _notes(self, evaluations: Mapping[TableEvaluation, Evaluation]) -> Iterator[str]:
        """Yield the differences between this run and the paper's."""
        if self._backend != self._paper.backend:
            yield f"The model is {self._backend}; the paper's is {self._paper.backend}."
        weights_of = {self._backend: self.model} if self.model else {}
        for name, weights in (weights_of | dict(self.weights)).items():
            yield f"The weights of {name} are those of {weights}."
        if self.limit is not None:
            yield f"At most {self.limit} images of a dataset are measured, evenly spaced over it; the paper has all."
        own = asdict(load_recipe("paper"))
        others = {}
        for job, evaluation in evaluations.items():
            recipe = evaluation.results["settings"]["recipe"]
            changed = [f"{key}={value} ({own[key]})" for key, value in recipe.items() if value != own[key]]
            others[job.encoder or self._backend] = ", ".join(changed)
        for name, changes in others.items():
            if changes:
                yield f"The recipe of {name} is not the paper's, whose values are in brackets: {changes}."
        for job, evaluation in evaluations.items():
            if failures := len(evaluation.results["failures"]):
                yield f"{failures} images could not be used and are left out: see {job.folder}/results.json."


def _job(table: Table, row: PublishedRow) -> TableEvaluation:
    return TableEvaluation(row.dataset, table.resolution, row.encoder, row.embedder)


def _jobs(tables: Iterable[Table]) -> dict[TableEvaluation, Requested]:
    """List the evaluations that tables need, ordered so that masks are made before they are named."""
    jobs: dict[TableEvaluation, Requested] = {}
    for table in tables:
        for row in table.rows:
            if row.foreign:
                continue
            job = _job(table, row)
            for each in (job._replace(embedder=None), job):
                requested = jobs.setdefault(each, Requested({}, {"oracle": None}))
                requested.methods[row.method] = None
            requested.protocols[table.protocol] = None
    return jobs
