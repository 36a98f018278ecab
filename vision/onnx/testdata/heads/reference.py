"""What each network's head means, by plain loops over numpy arrays.

Nothing here is shared with the graphs: boxes come from what the head says by
the definitions of the papers, NMS takes the best that is left again and again,
and boxes go back to the frame one number at a time.
"""
import math

import numpy as np

from nets import ANCHORS, STRIDES


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def cells(levels):
    """Each cell's level, column, row, stride and numbers."""
    for number, (level, stride) in enumerate(zip(levels, STRIDES)):
        for row in range(level.shape[2]):
            for column in range(level.shape[3]):
                yield number, column, row, stride, [float(v) for v in level[0, :, row, column]]


def best(scores):
    """The class with the highest score, and that."""
    at = 0
    for i, s in enumerate(scores):
        if s > scores[at]:
            at = i
    return at, scores[at]


def yolox(levels):
    """arXiv:2107.08430, section 2.1."""
    for _, column, row, stride, v in cells(levels):
        cx, cy = (v[0] + column) * stride, (v[1] + row) * stride
        w, h = math.exp(v[2]) * stride, math.exp(v[3]) * stride
        of, score = best([sigmoid(s) for s in v[5:]])
        yield [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score * sigmoid(v[4]), of]


def yolov5(levels):
    """Boxes of YOLOv5's documentation: b = 2σ(t) − 0.5 + cell, and anchor × (2σ(t))²."""
    for number, column, row, stride, v in cells(levels):
        size = len(v) // 3
        for a in range(3):
            t = [sigmoid(s) for s in v[a * size:(a + 1) * size]]
            cx, cy = (2 * t[0] - 0.5 + column) * stride, (2 * t[1] - 0.5 + row) * stride
            w, h = (2 * t[2]) ** 2 * ANCHORS[number][2 * a], (2 * t[3]) ** 2 * ANCHORS[number][2 * a + 1]
            of, score = best(t[5:])
            yield [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2, score * t[4], of]


def distances(levels):
    """YOLOv6, YOLOv8: distances from the cell's centre to the sides, in strides."""
    for _, column, row, stride, v in cells(levels):
        left, top, right, bottom = (math.log1p(math.exp(d)) for d in v[:4])
        of, score = best([sigmoid(s) for s in v[4:]])
        x, y = column + 0.5, row + 0.5
        yield [(x - left) * stride, (y - top) * stride, (x + right) * stride, (y + bottom) * stride, score, of]


def every_class(levels):
    """YOLOv10: a cell may be several classes, one of the best cells at least."""
    found = []
    for _, column, row, stride, v in cells(levels):
        left, top, right, bottom = (math.log1p(math.exp(d)) for d in v[:4])
        x, y = column + 0.5, row + 0.5
        box = [(x - left) * stride, (y - top) * stride, (x + right) * stride, (y + bottom) * stride]
        found += [[*box, sigmoid(s), of] for of, s in enumerate(v[4:])]
    return found


def detr(queries, w, h):
    """arXiv:2304.08069: the sigmoid of each query's logits; boxes relative to the picture."""
    for q in queries[0]:
        cx, cy, bw, bh = (sigmoid(float(v)) for v in q[:4])
        for of, logit in enumerate(q[4:]):
            yield [(cx - bw / 2) * w, (cy - bh / 2) * h, (cx + bw / 2) * w, (cy + bh / 2) * h, sigmoid(float(logit)), of]


def detr_best(queries, w, h):
    """Ultralytics takes only the best class of a query."""
    all_of = list(detr(queries, w, h))
    classes = queries.shape[2] - 4
    for i in range(0, len(all_of), classes):
        yield max(all_of[i:i + classes], key=lambda f: f[4])


def ssd(levels, w, h):
    """arXiv:1512.02325, section 2.2, with variances of 0.1 and 0.2 and one prior of three strides a cell."""
    for _, column, row, stride, v in cells(levels):
        cx, cy = (column + 0.5) * stride + v[0] * 0.1 * 3 * stride, (row + 0.5) * stride + v[1] * 0.1 * 3 * stride
        bw, bh = math.exp(v[2] * 0.2) * 3 * stride, math.exp(v[3] * 0.2) * 3 * stride
        powers = [math.exp(s) for s in v[4:]]
        for of, p in enumerate(powers[1:]):
            yield [cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2, p / sum(powers), of]


def overlap(a, b):
    w = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    both = w * h
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


class Unsure(Exception):
    """A number so near a threshold that rounding decides."""


def keep(found, thresholds, iou):
    """What is confident enough, and of what overlaps in a class only the best; and how many that cost.
    iou is None without NMS."""
    for f in found:
        if abs(f[4] - thresholds[f[5]]) < 0.004:
            raise Unsure
    left = sorted((f for f in found if f[4] >= thresholds[f[5]]), key=lambda f: -f[4])
    for a, b in zip(left, left[1:]):
        if a[4] - b[4] < 0.002:
            raise Unsure
    kept, all_of = [], len(left)
    while left:
        top, left = left[0], left[1:]
        kept.append(top)
        if iou is None:
            continue
        same = [f for f in left if f[5] == top[5]]
        if any(abs(overlap(top, f) - iou) < 0.01 for f in same):
            raise Unsure
        left = [f for f in left if f[5] != top[5] or overlap(top, f) <= iou]
    return kept, all_of - len(kept)


def prepare(frame, mode, w, h, pad):
    """The picture of a BGR frame, and what brings its pixels back: scales and offsets. Scales are whole numbers here."""
    fh, fw, _ = frame.shape
    if mode == "stretch":
        sx, sy = w // fw, h // fh
    else:
        sx = sy = min(w // fw, h // fh)
    scaled = np.repeat(np.repeat(frame, sy, 0), sx, 1)
    x = y = 0
    if mode == "centre":
        x, y = (w - fw * sx) // 2, (h - fh * sy) // 2
    out = np.full((h, w, 3), pad, np.uint8)
    out[y:y + fh * sy, x:x + fw * sx] = scaled
    return out, (sx, sy, x, y)


def to_frame(f, back, fw, fh):
    """A detection in pixels of the frame, which it does not leave; None if nothing of it is left."""
    sx, sy, x, y = back
    x0, x1 = max(0, (f[0] - x) / sx), min(fw, (f[2] - x) / sx)
    y0, y1 = max(0, (f[1] - y) / sy), min(fh, (f[3] - y) / sy)
    if x1 - x0 <= 0 or y1 - y0 <= 0:
        return None
    if x1 - x0 < 0.05 or y1 - y0 < 0.05:
        raise Unsure
    return {"class": f[5], "confidence": f[4], "box": [x0, y0, x1 - x0, y1 - y0]}
