#!/usr/bin/env python3
"""Trains the line's detector on pictures that the simulator draws on the way.

    train.py FEED OUT [--batches N] [--seed S]

FEED is the program in feed/, OUT the ONNX file to write. With the same seed, the
same number of threads and the same PyTorch the result is the same.
"""

import argparse
import copy
import math
import queue
import random
import struct
import subprocess
import sys
import threading
import time

import numpy as np
import torch
from torch.nn import functional as F

import model

BATCH, FRESH = 12, 2  # views of a step, and how many pictures of it are new
MEMORY = 1024  # pictures that are looked at again
WIDTH, HEIGHT = 320, 192  # of a view: most of a picture is belt, which is learnt soon
SHOWN = 12  # pixels of a cut-off part's side from which on it counts, as in sim's truth
HIDDEN = 0.4  # of a flaw's area that may be cut off, as there
LR, DECAY = 3e-3, 5e-2
FRAME = model.HEIGHT * model.WIDTH * 3


def pictures(feed, seed):
    """Yields (pixels, boxes) as feed/main.go writes them; boxes (n, 5) are class, left, top, right, bottom."""
    with subprocess.Popen([feed, "-seed", str(seed), "-width", str(model.WIDTH), "-height", str(model.HEIGHT)],
                          stdout=subprocess.PIPE, bufsize=1 << 22) as p:
        try:
            while True:
                head = p.stdout.read(2)
                if len(head) < 2:
                    raise RuntimeError(f"{feed} ended with {p.wait()}")
                n, = struct.unpack("<H", head)
                boxes = np.array([struct.unpack("<B4f", p.stdout.read(17)) for _ in range(n)], np.float32).reshape(-1, 5)
                pixels = np.frombuffer(p.stdout.read(FRAME), np.uint8).reshape(model.HEIGHT, model.WIDTH, 3)
                yield pixels, boxes
        finally:
            p.kill()


def ahead(items, n):
    """Reads up to n items ahead in a thread of its own."""
    q = queue.Queue(n)

    def read():
        for item in items:
            q.put(item)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield q.get()


def view(picture, rng):
    """A part of a picture around one of its objects, mirrored or not, and the boxes that it shows."""
    pixels, boxes = picture
    flaws = np.flatnonzero(boxes[:, 0] > 0)
    if len(flaws) and rng.random() < 0.8:
        at = boxes[rng.choice(list(flaws))]
    elif len(boxes):
        at = boxes[rng.randrange(len(boxes))]
    else:
        at = np.array([0, 0, 0, model.WIDTH, model.HEIGHT], np.float32)
    left = int(min(max((at[1] + at[3]) / 2 - rng.uniform(0.05, 0.95) * WIDTH, 0), model.WIDTH - WIDTH))
    top = int(min(max((at[2] + at[4]) / 2 - rng.uniform(0.05, 0.95) * HEIGHT, 0), model.HEIGHT - HEIGHT))
    pixels = pixels[top:top + HEIGHT, left:left + WIDTH]
    whole = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
    cut = boxes - np.array([0, left, top, left, top], np.float32)
    cut[:, [1, 3]] = cut[:, [1, 3]].clip(0, WIDTH)
    cut[:, [2, 4]] = cut[:, [2, 4]].clip(0, HEIGHT)
    w, h = cut[:, 3] - cut[:, 1], cut[:, 4] - cut[:, 2]
    cut = cut[np.where(cut[:, 0] == 0, np.minimum(w, h) >= SHOWN, w * h >= (1 - HIDDEN) * whole)]
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
        cut[:, [1, 3]] = WIDTH - cut[:, [3, 1]]
    if rng.random() < 0.5:
        pixels = pixels[::-1]
        cut[:, [2, 4]] = HEIGHT - cut[:, [4, 2]]
    return pixels, cut


def batches(feed, seed, rng):
    """Yields tensors of pixels (B, 3, H, W) in [0, 1] and lists of boxes."""
    memory, source = [], ahead(pictures(feed, seed), 16)
    while True:
        fresh = [next(source) for _ in range(FRESH if memory else 4 * BATCH)]
        for picture in fresh:
            if len(memory) < MEMORY:
                memory.append(picture)
            else:
                memory[rng.randrange(MEMORY)] = picture
        chosen = fresh[:FRESH] + [memory[rng.randrange(len(memory))] for _ in range(BATCH - FRESH)]
        views = [view(p, rng) for p in chosen]
        x = torch.from_numpy(np.stack([p for p, _ in views])).permute(0, 3, 1, 2)
        yield x.float().mul_(1 / 255), [b for _, b in views]


COLUMNS, ROWS = WIDTH // model.STRIDE, HEIGHT // model.STRIDE
XS = (np.arange(COLUMNS, dtype=np.float32) + 0.5) * model.STRIDE
YS = (np.arange(ROWS, dtype=np.float32) + 0.5) * model.STRIDE


def assign(boxes):
    """Gives cells to boxes: those whose centre is near a box's. A small box takes a cell from a larger one.

    Returns classes (ROWS, COLUMNS), -1 for none, and boxes (ROWS, COLUMNS, 4).
    """
    classes = np.full((ROWS, COLUMNS), -1, np.int64)
    targets = np.zeros((ROWS, COLUMNS, 4), np.float32)
    area = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
    for i in np.argsort(-area):
        kind, x0, y0, x1, y1 = boxes[i]
        near = (1.5 if kind == 0 else 0.8) * model.STRIDE
        columns = np.abs(XS - (x0 + x1) / 2) < near
        rows = np.abs(YS - (y0 + y1) / 2) < near
        cells = rows[:, None] & columns[None]
        classes[cells] = int(kind)
        targets[cells] = boxes[i, 1:]
    return classes, targets


CENTRES = torch.from_numpy(np.stack(np.meshgrid(XS, YS)).reshape(2, -1))  # (2, cells)


def corners(y):
    """Boxes (B, cells, 4) as left, top, right and bottom in pixels, from the network's (B, 4.., cells)."""
    centre = CENTRES + y[:, :2] * model.STRIDE
    half = y[:, 2:4].clamp(-4, 5).exp() * (model.STRIDE / 2)
    return torch.cat((centre - half, centre + half), 1).transpose(1, 2)


def overlap(a, b):
    """IoU and generalised IoU (Rezatofighi et al. 2019) of boxes (n, 4)."""
    inter = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - inter
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    iou = inter / union.clamp(1e-6)
    return iou, iou - (hull - union) / hull.clamp(1e-6)


def wanted(targets, cells):
    """What the network should say of boxes (n, 4) in cells (n,): see LineNet."""
    centre = (targets[:, :2] + targets[:, 2:]) / 2
    offset = (centre - CENTRES.T[cells]) / model.STRIDE
    return torch.cat((offset, ((targets[:, 2:] - targets[:, :2]) / model.STRIDE).log()), 1)


def loss(output, boxes):
    """Quality focal loss for the classes (Li et al. 2020, "Generalized Focal Loss"), GIoU and L1 for the boxes.

    The quality that a score should state is half of it that there is an object
    and half of it how well its box lies: with the overlap alone the thin boxes
    of scratches, which hardly overlap at first, are never learnt.
    """
    y = output.flatten(2)
    assigned = [assign(b) for b in boxes]
    classes = torch.from_numpy(np.stack([c for c, _ in assigned])).flatten(1)
    targets = torch.from_numpy(np.stack([t for _, t in assigned])).flatten(1, 2)
    found = classes >= 0
    cells = found.nonzero()[:, 1]
    iou, giou = overlap(corners(y)[found], targets[found])
    # A part has nine cells, and is easy; a flaw has one to four.
    weight = torch.where(classes[found] == 0, 0.25, 1.0)
    total = weight.sum().clamp(1)
    logits = y[:, 4:].transpose(1, 2)
    quality = torch.zeros_like(logits)
    quality[found] = F.one_hot(classes[found], len(model.CLASSES)).float() * (0.5 + iou.detach().clamp(0) / 2)[:, None]
    scale = torch.ones_like(logits)
    scale[found] = weight[:, None]
    focus = (quality - logits.sigmoid()).abs().pow(2)
    score = (F.binary_cross_entropy_with_logits(logits, quality, reduction="none") * focus * scale).sum() / total
    off = (y[:, :4].transpose(1, 2)[found] - wanted(targets[found], cells)).abs().sum(1)
    return score, ((1 - giou + 0.5 * off) * weight).sum() / total


def rate(step, steps):
    """The learning rate: up for 3 %, then down along a cosine."""
    warm = steps * 0.03
    return min(step / warm, 1.0) * LR * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def average(mean, net, step):
    """Moves an exponential moving average of weights; buffers are copied."""
    keep = min(0.9985, (1 + step) / (10 + step))
    with torch.no_grad():
        for a, b in zip(mean.state_dict().values(), net.state_dict().values()):
            if a.dtype.is_floating_point:
                a.mul_(keep).add_(b, alpha=1 - keep)
            else:
                a.copy_(b)


def train(args):
    random.seed(args.seed), np.random.seed(args.seed), torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    net = model.LineNet().to(memory_format=torch.channels_last)
    mean = copy.deepcopy(net).eval()
    plain = [p for p in net.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": DECAY},
         {"params": plain, "weight_decay": 0.0}], lr=LR)
    sums, began = np.zeros(2), time.monotonic()
    for step, (x, boxes) in enumerate(batches(args.feed, args.seed, random.Random(args.seed))):
        if step == args.batches:
            break
        for group in optimiser.param_groups:
            group["lr"] = rate(step, args.batches)
        score, place = loss(net(x.contiguous(memory_format=torch.channels_last)), boxes)
        optimiser.zero_grad(set_to_none=True)
        (score + 2 * place).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
        optimiser.step()
        average(mean, net, step)
        sums += score.item(), place.item()
        if (step + 1) % 500 == 0:
            print(f"batch {step + 1} of {args.batches}: score {sums[0] / 500:.4f}, box {sums[1] / 500:.4f}, "
                  f"{(time.monotonic() - began) / (step + 1):.3f} s a batch", flush=True)
            sums[:] = 0
        if (step + 1) % 1000 == 0:
            model.export(copy.deepcopy(mean), args.out)
    model.export(copy.deepcopy(mean), args.out)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("feed"), p.add_argument("out")
    p.add_argument("--batches", type=int, default=16000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    train(p.parse_args())


if __name__ == "__main__":
    sys.exit(main())
