"""A paper's tables, run: each row by `genseg.evaluation.evaluate.evaluate`, beside the published figure."""

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
    """One evaluation: the figures of one row or several, all of the same images.

    Attributes:
        dataset: The data set's name.
        resolution: As the table has it.
        encoder: In place of the backend; None for the backend.
        embedder: What names the masks that the job without it makes; None for none.
    """

    dataset: str
    resolution: str
    encoder: str | None
    embedder: str | None

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return "-".join(part for part in self if part)


class Asked(NamedTuple):
    """What a job is to give: names of methods and protocols, in order. ``oracle``, the ceiling, comes with each."""

    methods: dict[str, None]
    protocols: dict[str, None]


@dataclass
class Reproducer:
    """Runs a paper's tables. What can be run is found out first: data sets are opened, and each model loaded once.

    Args:
        paper: One of `genseg.evaluation.paper.published.PAPERS`.
        root: Holds a folder for each data set, which has the data set's name.
        tables: Their numbers; none for all.
        backend: The generative model's name; None for the paper's.
        recipe: As for `genseg.Segmenter`.
        options: Recipe keys as ``key=value``.
        limit: At most so many images of each set, evenly spaced; None for all.
        weights: Checkpoints or hub ids of encoders and embedders, by name, where they are not to be their own.
        seed: As for `genseg.Segmenter`.
        model: Likewise.
        device: Likewise.
        dtype: Likewise.
        load: What else the backend's factory takes.

    Attributes:
        jobs: What will be run, and the number of its images.
        why: Of each other job, why it will not.

    Raises:
        GensegError: For an unknown name, a recipe that cannot be, or if no row at all can be run.
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
        self._asked = _jobs(self._tables.values())
        self._open()

    def run(self, out: str | Path, progress: ProgressCallback | None = None) -> Reproduction:
        """Run what can be run.

        Args:
            out: A folder; each job has one below it, from which a stopped run goes on.
            progress: As for `evaluate`; an image's key comes after its job's folder.

        Returns:
            Every row of the tables, also those without a figure.
        """
        found: dict[TableEvaluation, Evaluation] = {}
        failed: dict[TableEvaluation, str] = {}
        for job in self.jobs:
            try:
                found[job] = self._evaluated(job, Path(out), progress or (lambda *_: None))
                found[job].save(Path(out) / job.folder)
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
                    facts |= measured(found[job], table, row) if job in found else {"why": failed[job]}
                    facts["failed"] = bool(facts["why"])
                rows.append(facts)
            its = {job: found[job] for job in _jobs([table]) if job in found}
            notes = [*table.notes, *self._notes(its)]
            tables[number] = {"title": table.title, "notes": notes, "rows": rows}
        return Reproduction(self._paper.source, tables)

    def _open(self) -> None:
        """Open the data sets, load each model once to see whether it can be, and sort the jobs."""
        sets: dict[str, Dataset] = {}
        problems: dict[str, str] = {}
        for name in dict.fromkeys(job.dataset for job in self._asked):
            place = Path(self.root) / name
            try:
                if not place.is_dir():
                    raise absent(READERS[name].info, place)
                sets[name] = load_dataset(name, place)
            except GensegError as error:
                problems[name] = str(error)
        if not sets:
            there = [problem for name, problem in problems.items() if (Path(self.root) / name).is_dir()]
            nothing = (
                f"{self.root} has none of the folders {', '.join(problems)}; unpack one of these data sets there, "
                "'genseg datasets' says what to fetch"
            )
            raise GensegError(there[0] if there else nothing)
        self._sets = sets
        needed = [job for job in self._asked if job.dataset in sets]
        problems |= self._models_missing(needed)
        for job in self._asked:
            parts = (job.dataset, job.encoder or self._backend, job.embedder)
            if why := next((problems[part] for part in parts if part in problems), None):
                self.why[job] = why
        able = [job for job in self._asked if job not in self.why]
        named = {job._replace(embedder=None) for job in able if job.embedder}
        for job in able:
            methods, protocols = map(list, self._asked[job])
            if len(protocols) > 1 or job in named:  # else it makes masks for rows that cannot be run
                plan = Plan(
                    sets[job.dataset], methods, protocols, job.resolution, self.limit, named=job.embedder is not None
                )
                self.jobs[job] = len(plan.keys)
        if not self.jobs:
            raise GensegError(f"no row can be run: {next(self.why[job] for job in needed if job in self.why)}")

    def _models_missing(self, jobs: Sequence[TableEvaluation]) -> dict[str, str]:
        """Why a backend, encoder or embedder cannot be loaded, by its name."""
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
        def telling(key: str, *stage: Any) -> None:
            progress(f"{job.folder}/{key}", *stage)

        asked = self._asked[job]
        given: dict[str, Any] = {"backend": self._backend, "model": self.model, "load": self.load}
        if job.encoder:
            given = {"encoder": job.encoder, "model": self.weights.get(job.encoder)}
        if job.embedder:
            given |= {"embedder": job.embedder, "embedder_model": self.weights.get(job.embedder)}
            given |= {"masks": out / job._replace(embedder=None).folder}
        return evaluate(
            self._sets[job.dataset], out / job.folder, methods=[*asked.methods], protocols=[*asked.protocols],
            resolution=job.resolution, limit=self.limit, recipe=self.recipe, options=self.options, seed=self.seed,
            device=self.device, dtype=self.dtype, progress=telling, **given,
        )  # fmt: skip

    def _notes(self, found: Mapping[TableEvaluation, Evaluation]) -> Iterator[str]:
        """Where this run, as it was asked for, is another than the paper's."""
        if self._backend != self._paper.backend:
            yield f"The model is {self._backend}; the paper's is {self._paper.backend}."
        given = {self._backend: self.model} if self.model else {}
        for name, weights in (given | dict(self.weights)).items():
            yield f"The weights of {name} are those of {weights}."
        if self.limit is not None:
            yield f"At most {self.limit} images of a set are measured, evenly spaced over it; the paper has all."
        own = asdict(load_recipe("paper"))
        others = {}
        for job, each in found.items():
            recipe = each.results["settings"]["recipe"]
            changed = [f"{key}={value} ({own[key]})" for key, value in recipe.items() if value != own[key]]
            others[job.encoder or self._backend] = ", ".join(changed)
        for name, changes in others.items():
            if changes:
                yield f"The recipe of {name} is not the paper's, whose values are in brackets: {changes}."
        for job, each in found.items():
            if failures := len(each.results["failures"]):
                yield f"{failures} images could not be used and are left out: see {job.folder}/results.json."


def _job(table: Table, row: PublishedRow) -> TableEvaluation:
    return TableEvaluation(row.dataset, table.resolution, row.encoder, row.embedder)


def _jobs(tables: Iterable[Table]) -> dict[TableEvaluation, Asked]:
    """The evaluations that tables need, in an order in which masks are made before they are named."""
    jobs: dict[TableEvaluation, Asked] = {}
    for table in tables:
        for row in table.rows:
            if row.foreign:
                continue
            job = _job(table, row)
            for each in (job._replace(embedder=None), job):
                asked = jobs.setdefault(each, Asked({}, {"oracle": None}))
                asked.methods[row.method] = None
            asked.protocols[table.protocol] = None
    return jobs
