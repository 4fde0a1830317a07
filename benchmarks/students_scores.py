"""What is a student worth that was trained on masks nobody drew? Second step: concepts, students, figures and speed.

    python benchmarks/students_scores.py --data FOLDER --out OUT [--steps 1000] [--report FILE] [--speed]

OUT is what students.py wrote to. Trains one student on the masks of either way, and as a yardstick one on labels: in
two folds of each set, trained on one half of its photos and scored on the other. All are scored on the same photos by
one matching of concepts and classes for each set (Hungarian); the yardstick needs none. What is trained already is
kept, so that the command goes on where it was killed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from rich.console import Console
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

import genseg
from command import run
from genseg.evaluation.metrics import IGNORE, Labels
from genseg.evaluation.protocols import Protocol, Score, Seen, Truth, View, measured, paired_interval
from genseg.files import write_whole
from genseg.runs.rows import LEVELS, Row, png_of, table_of
from genseg.runs.run import MANIFEST, Run
from genseg.runs.sources import Source
from genseg.runs.store import Store
from quality import SIDE, Sample, load_set
from students import SETS, WAYS

CLASSES = "concepts"
EVERY = 10**6  # photos of a set
STUDENT: dict[str, Any] = {"student": "segformer-nano", "image_size": SIDE, "batch_size": 8, "lr": 1e-3}
Predict = Callable[[Image.Image], Labels]


class Matched(Protocol):
    """Each concept takes one class, by the one-to-one matching over the set that has most pixels right."""

    name = "traditional"
    rule = "concepts given classes by the best one-to-one matching over the set"
    passes = 1

    def __init__(self, n_classes: int, n_concepts: int) -> None:
        super().__init__(n_classes)
        self._confusion = np.zeros((n_concepts, n_classes), dtype=np.int64)

    def fit(self, view: View) -> None:
        self._confusion[: len(view.table)] += view.table

    def close(self) -> None:
        self.class_of = np.full(len(self._confusion), IGNORE, dtype=np.int64)
        concepts, classes = linear_sum_assignment(self._confusion, maximize=True)
        self.class_of[concepts] = classes

    def classes(self, view: View) -> npt.NDArray[np.int64]:
        return self.class_of[: len(view.table)]


class AsTheyAre(Protocol):
    """Predictions that are classes already."""

    name = "as they are"
    rule = "predicted classes"

    def classes(self, view: View) -> npt.NDArray[np.int64]:
        return np.arange(len(view.table))


def give_concepts(out: Path, k: int) -> None:
    """Cluster the masks of the training photos, each counting once, and give every mask its nearest concept."""
    rows = Run(str(out / "train" / WAYS[0])).rows(["masks"])
    vectors = np.concatenate([[mask.embedding for mask in row.masks] for row in rows])
    means = KMeans(k, n_init=10, random_state=0).fit(vectors)

    def choose(row: Row) -> npt.NDArray[np.int32]:
        chosen = np.full(1 + max(mask.label for mask in row.masks), -1, dtype=np.int32)
        chosen[[mask.label for mask in row.masks]] = means.predict(np.stack([mask.embedding for mask in row.masks]))
        return chosen

    for name in ("train", *SETS):
        for way in WAYS:
            Run(str(out / name / way)).assign(CLASSES, [f"concept {i}" for i in range(k)], choose, ["masks"], k=k)


def labelled_run(samples: list[Sample], n_classes: int, folder: Path) -> Run:
    """Photos with labels as a run whose masks are the classes."""
    store, rows = Store(str(folder)), []
    sure = png_of(np.full((SIDE, SIDE), LEVELS, dtype=np.uint8))
    for sample in samples:
        truth = np.where(sample.truths[0] == IGNORE, n_classes, sample.truths[0]).astype(np.uint8)
        square = png_of(np.asarray(sample.square.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
        rows.append(
            Row(sample.name, Source(""), size=(SIDE, SIDE), image=square, labels_png=png_of(truth), confidence_png=sure)
        )
    store.write_table("shards/shard-00000.parquet", table_of(rows))
    store.write_json(MANIFEST, {})
    found = Run(str(folder))
    given = np.array([*range(n_classes), -1], dtype=np.int32)
    found.assign("labels", [str(i) for i in range(n_classes)], lambda _: given, ["key"])
    return found


def student_at(folder: Path) -> Predict:
    """A trained student: from an image to its map of classes, at the image's size."""
    model = AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
    processor = AutoImageProcessor.from_pretrained(folder)

    @torch.inference_mode()
    def predict(image: Image.Image) -> Labels:
        output = model(**processor(image, return_tensors="pt"))
        size = (image.height, image.width)
        found: Labels = processor.post_process_semantic_segmentation(output, target_sizes=[size])[0].numpy()
        return found

    return predict


def train(source: Run, classes: str, out: Path, steps: int) -> Predict:
    """A student of a run, trained unless it has been."""
    last = time.monotonic()

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > 60:
            print(f"{out}: {stage} {done}/{total}", flush=True)
            last = time.monotonic()

    genseg.distill(source, classes, out, steps=steps, save_every=100, resume=True, progress=tell, **STUDENT)
    return student_at(out)


def supervised(data: Path, name: str, out: Path, steps: int) -> tuple[dict[str, Labels], int]:
    """Predictions for every photo of a set, by a student of the other half's labels; and the number of classes.

    Halves are the first and the last photos: neighbours in a video are nearly the same.
    """
    samples, n_classes = load_set(data / name, EVERY)
    assert n_classes is not None
    halves = samples[: len(samples) // 2], samples[len(samples) // 2 :]
    predictions: dict[str, Labels] = {}
    for fold, (seen, unseen) in enumerate((halves, halves[::-1])):
        folder = out / "supervised" / f"{name}-{fold}"
        predict = train(labelled_run(seen, n_classes, folder / "run"), "labels", folder / "student", steps)
        for sample in unseen:
            predictions[sample.name] = predict(sample.square.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    return predictions, n_classes


def scored(maps: dict[str, Labels], truths: dict[str, Truth], protocol: Protocol, n_classes: int) -> Score:
    """The figures of the maps of a set's photos."""
    seen = {key: Seen(labels, [truths[key]]) for key, labels in maps.items()}
    for _ in range(protocol.passes):
        for each in seen.values():
            protocol.fit(each.views()[0])
        protocol.close()
    score = Score(protocol, n_classes)
    for key, each in seen.items():
        score.add(key, measured(each, [protocol.classes(view) for view in each.views()]))
    return score


def rows_of(out: Path, name: str, way: str) -> Iterator[Row]:
    return Run(str(out / name / way)).rows(classes=CLASSES)


def figures_of(data: Path, out: Path, name: str, students: dict[str, Predict], k: int, steps: int) -> dict[str, Any]:
    """All methods' figures on one set, and the differences that matter, with intervals."""
    yardstick, n_classes = supervised(data, name, out, steps)
    samples = load_set(data / name, EVERY)[0]
    truths = {sample.name: Truth(sample.truths[0], n_classes) for sample in samples}
    scores = {}
    for way in WAYS:
        maps = {row.key: row.class_labels for row in rows_of(out, name, way)}
        scores[f"masks, {way}"] = scored(maps, truths, Matched(n_classes, k), n_classes)
        maps = {row.key: students[way](row.picture()) for row in rows_of(out, name, way)}
        scores[f"student, {way}"] = scored(maps, truths, Matched(n_classes, k), n_classes)
    maps = {key: yardstick[key] for key in maps}
    scores["student, supervised"] = scored(maps, truths, AsTheyAre(n_classes), n_classes)
    pairs = [(f"student, {way}", f"masks, {way}") for way in WAYS]
    pairs += [(f"{what}, modulation", f"{what}, naive") for what in ("masks", "student")]
    pairs += [("student, modulation", "student, supervised")]
    gains = {}
    for one, other in pairs:
        gains[f"{one} − {other}"] = {
            figure: [
                float(scores[one].values(figure)[0] - scores[other].values(figure)[0]),
                *paired_interval(scores[one], scores[other], figure),
            ]
            for figure in ("miou", "accuracy")
        }
    kept = ("miou", "accuracy", "boundary_f")
    rows = {
        method: {figure: score.figures()[figure] for figure in kept} | {"images": len(maps)}
        for method, score in scores.items()
    }
    return {"methods": rows, "gains": gains}


def seconds_of(out: Path, source: str, n_photos: int = 3) -> dict[str, Any]:
    """Seconds an image of teacher and student, from a picture to the map at its size, with one thread and two.

    The median by the clock, and by the processors, which other programs on them hardly change.
    """
    manifest = Run(str(out / source / WAYS[0])).settings
    teacher = genseg.Segmenter(manifest["backend"], genseg.Recipe(**manifest["recipe"]))
    student = student_at(out / "students" / WAYS[0])
    pictures = [row.picture() for _, row in zip(range(n_photos), rows_of(out, source, WAYS[0]), strict=False)]
    found: dict[str, Any] = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        taken: dict[str, float] = {}
        for who, predict, rounds in (("teacher", teacher, 1), ("student", student, 20)):
            predict(pictures[0])
            for clock, name in ((time.perf_counter, "clock"), (time.process_time, "processors")):
                times = []
                for picture in pictures * rounds:
                    start = clock()
                    predict(picture)
                    times.append(clock() - start)
                taken[f"{who}, {name}"] = median(times)
        ratios = {
            f"ratio, {name}": taken[f"teacher, {name}"] / taken[f"student, {name}"] for name in ("clock", "processors")
        }
        found[f"{threads} threads"] = taken | ratios
    return found


def show(report: dict[str, Any], console: Console) -> None:
    """The figures as the rows of a table in Markdown."""
    for name, found in report["sets"].items():
        for method, row in found["methods"].items():
            cells = [
                f"{v['value']:.3f} [{v['interval'][0]:.3f}, {v['interval'][1]:.3f}]" for v in list(row.values())[:3]
            ]
            console.print(f"| {name} | {method} | {' | '.join(cells)} |", markup=False)
        for pair, gain in found["gains"].items():
            cells = [f"{figure} {v[0]:+.3f} [{v[1]:+.3f}, {v[2]:+.3f}]" for figure, v in gain.items()]
            console.print(f"{name}: {pair}: {'; '.join(cells)}", markup=False)
    console.print({name: part for name, part in report.items() if name not in ("sets", "settings")})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--concepts", type=int, default=11, help="as many as CamVid has classes")
    parser.add_argument("--steps", type=int, default=1000, help="of students of masks")
    parser.add_argument("--supervised-steps", type=int, default=500, help="of students of labels, which are fewer")
    parser.add_argument("--report", type=Path, help="a JSON file of all figures")
    parser.add_argument("--speed", action="store_true", help="time teacher and student too; nothing else may run then")
    args = parser.parse_args()
    give_concepts(args.out, args.concepts)
    students = {
        way: train(Run(str(args.out / "train" / way)), CLASSES, args.out / "students" / way, args.steps) for way in WAYS
    }
    given = (students, args.concepts, args.supervised_steps)
    sets = {name: figures_of(args.data, args.out, name, *given) for name in SETS}
    records = {way: json.loads((args.out / "students" / way / "training.json").read_text()) for way in WAYS}
    agreement = {way: record["validation"] for way, record in records.items()}
    about = {"photos": len(Run(str(args.out / "train" / WAYS[0]))), "concepts": args.concepts, "steps": args.steps}
    about |= {"supervised_steps": args.supervised_steps, "student": STUDENT}
    report = {"settings": about, "sets": sets, "agreement": agreement}
    if args.speed:
        report["seconds"] = seconds_of(args.out, SETS[0])
    show(report, Console(width=160))
    if args.report:
        write_whole(args.report, lambda file: file.write((json.dumps(report, indent=2) + "\n").encode()))


if __name__ == "__main__":
    run(main)
