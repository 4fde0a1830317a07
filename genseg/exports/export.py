"""Writing a run in a format that other tools read."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from genseg.display.spreadsheet import cell
from genseg.errors import GensegError, NothingLeftError, unknown
from genseg.exports.file_names import FileNamer
from genseg.exports.formats import EXPORTS
from genseg.exports.images import IMAGES, verified
from genseg.exports.items import ExportImage, Target
from genseg.exports.saved import SavedSegmentations, open_masks
from genseg.files import whole_folder
from genseg.runs.report import write_report
from genseg.runs.run import Run, Skipped


@dataclass
class Exported:
    """Result of an export.

    Attributes:
        images: How many were written.
        skipped: Those left out, as they cannot be read any more or have another size, and damaged shards.
    """

    images: int = 0
    skipped: Skipped = field(default_factory=Skipped)


def export_run(
    run: str | Path | Sequence[str | Path] | Run,
    format: str,
    out: str | Path,
    *,
    classes: str | None = None,
    things: str | Sequence[str] = (),
    min_confidence: float = 0.0,
    min_area: int = 0,
    images: str = "link",
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write the masks of a run or of saved segmentations for other tools: a folder, as a whole or not at all.

    Images that failed are left out, and those that cannot be read any more. A few images are in memory at a time. The
    run's report is written anew, if the run can be written to.

    Args:
        run: The folder or URL of a run, or one that is open; or the ``.npz`` files of `Segmentation.save`: a folder of
            them, a pattern, or their paths. Their names become classes, and damaged files are skipped.
        format: ``"coco-instances"``, ``"coco-panoptic"``, ``"cityscapes"``, ``"voc"``, ``"yolo-seg"``,
            ``"huggingface"``, ``"label-studio"``, ``"labelme"`` or ``"cvat"``; the page on exports says what each has.
        out: A new or empty local folder.
        classes: A set of classes that the masks were given, such as ``"concepts-27"``; what has no class is then
            ignored. None for masks that are all of the class ``"segment"``, or for the names in ``.npz`` files.
        things: Classes of which each mask is a thing, as names or one text with commas, for ``"coco-panoptic"``; the
            others are stuff, one segment for each class in an image.
        min_confidence: In [0, 1]; pixels below it become "ignore": they are of no mask.
        min_area: In pixels; segments with fewer are ignored.
        images: ``"link"`` links image files of this machine where the format takes them as they are: hard links, or
            symbolic ones to another disk. ``"copy"`` copies, and ``"none"`` leaves them out.
        limit: Export only the first so many images.
        progress: Progress callback: ``(done, total)`` in images.

    Returns:
        The number of images written, and those that were skipped.

    Raises:
        GensegError: If the run, the format or the classes are not there, the format cannot hold them, no image
            can be read, or ``out`` cannot be written.
    """
    if format not in EXPORTS:
        raise unknown("format", format, EXPORTS)
    if images not in IMAGES:
        raise unknown("way with images", images, IMAGES)
    if not 0 <= min_confidence <= 1:
        raise GensegError(f"min_confidence must lie in [0, 1], not be {min_confidence}")
    source = run if isinstance(run, Run) else open_masks(run)
    if classes is None and isinstance(source, SavedSegmentations):
        classes = next(iter(source.class_sets), None)
    names = None if classes is None else source.class_names(classes)
    chosen = EXPORTS[format]
    apart: tuple[str, ...] = ()
    if things:
        from genseg.naming import classes_of  # here, for it imports torch

        apart = classes_of(things)
        if not (chosen.has_things and names):
            raise GensegError("things are told from stuff by coco-panoptic with classes alone; leave things out")
        for thing in apart:
            if thing not in names:
                raise unknown("class", thing, names)
    total, exported = min(len(source), limit or len(source)), Exported()

    def items(target: Target) -> Iterator[ExportImage]:
        free = FileNamer(chosen.layout)
        with ExitStack() as opened:
            if not chosen.keys:
                table = opened.enter_context((target.folder / "keys.csv").open("w", newline="", encoding="utf-8"))
                lines = csv.writer(table)
                lines.writerow(["name", "key"])
            for row in islice(source.rows(classes=classes), limit):
                try:
                    row = verified(row, images, chosen.suffix)
                except GensegError as error:
                    exported.skipped.add(str(error))
                    continue
                item = ExportImage(exported.images + 1, free.of(row.key), row, target)
                if not chosen.keys:
                    lines.writerow([item.name, cell(row.key)])
                yield item
                exported.images += 1
                if progress:
                    progress(exported.images, total)
        for name, reason in source.damaged.items():
            exported.skipped.add(f"{name}: {reason}")
        if exported.skipped.count and not exported.images:
            raise NothingLeftError(exported.skipped.reason)

    with whole_folder(Path(out)) as folder:
        described = f"masks by genseg, backend {source.settings.get('backend', 'unknown')}"
        target = Target(folder, names, images, min_confidence, min_area, described, apart, chosen.suffix)
        chosen.write(items(target), target)
    if isinstance(source, Run):
        with suppress(GensegError):  # a run that others own can be exported too
            write_report(source)
    return exported
