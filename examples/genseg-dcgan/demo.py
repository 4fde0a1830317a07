"""Faces that the model makes, their clusters and their segments, as one picture: ``python demo.py faces.png``."""

import sys

import numpy as np
from PIL import Image

import genseg

SEEDS = (1, 4, 7, 9, 22, 30)
SIDE = 128  # of each face in the picture

segmenter = genseg.Segmenter("dcgan")
columns = []
for seed in SEEDS:
    seg = segmenter.generate(seed=seed)
    face = Image.fromarray(seg.image)
    cells = [face.resize((SIDE, SIDE), Image.Resampling.BICUBIC)]
    for labels in (seg.grid_labels, seg.labels):
        colors = Image.fromarray(np.asarray(seg.colors, dtype=np.uint8)[labels])
        cells.append(Image.blend(cells[0], colors.resize((SIDE, SIDE), Image.Resampling.NEAREST), 0.6))
    columns.append(np.concatenate([np.asarray(cell) for cell in cells]))
Image.fromarray(np.concatenate(columns, axis=1)).save(sys.argv[1], quality=90)
