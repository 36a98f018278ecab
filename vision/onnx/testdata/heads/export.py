"""Exports a small model in each form that vision/head decodes, with what it finds in two frames.

Run by `make heads`, with Debian's python3-torch. For each form it writes
NAME.onnx, NAME.yaml where the form is not recognised without, and NAME.json:
the detections that reference.py finds from the same network.
"""
import io
import json
import pathlib
import sys
import warnings

import numpy as np
import torch

import nets
import reference
from nets import C, H, W

HERE = pathlib.Path(__file__).parent
CLASSES = ["bolt", "nut", "washer"]
YOLO = {"colour": "rgb", "scale": 1 / 255, "letterbox": "centre", "pad": 114}
YOLOX = {"colour": "bgr", "scale": 1, "letterbox": "top-left", "pad": 114}
DETR = {"colour": "rgb", "scale": 1 / 255, "letterbox": "stretch", "pad": 114}
SSD = {"colour": "rgb", "scale": 1, "mean": [123, 117, 104], "std": [128, 120, 130], "letterbox": "stretch", "pad": 0}
BYTES = {"colour": "rgb", "scale": 1, "letterbox": "stretch", "pad": 0}
ULTRALYTICS = {
    "description": "Ultralytics model trained on nothing", "author": "Ultralytics", "task": "detect", "stride": "32", "batch": "1",
    "imgsz": "[%d, %d]" % (H, W), "names": str(dict(enumerate(CLASSES))),
}


class Case:
    """One fixture: how it is exported, and how its head is read."""

    def __init__(self, name, net, form, decode, picture, yaml="", meta=None, iou=0.45, outputs=("output",), inputs=("images",),
                 dynamic=None, planar=True, dtype=torch.float32, batch=1, graph_confidence=None, limit=None, opset=13):
        self.__dict__.update(locals())
        self.confidence = 0.4
        self.thresholds = [0.4] * C

    def tensor(self, bgr):
        """The network's input of a picture, for a whole batch."""
        p, x = self.picture, torch.from_numpy(bgr.astype(np.float64))
        if p["colour"] == "rgb":
            x = x.flip(2)
        x = (x * p["scale"] - torch.tensor(p.get("mean", 0))) / torch.tensor(p.get("std", 1))
        if self.planar:
            x = x.permute(2, 0, 1)
        return x.to(self.dtype).unsqueeze(0).repeat(self.batch, 1, 1, 1)

    def find(self, net, frame):
        bgr, back = reference.prepare(frame, self.picture["letterbox"], W, H, self.picture["pad"])
        with torch.no_grad():
            raw = net.raw(self.tensor(bgr)[:1])
        raw = [r.numpy() for r in raw] if isinstance(raw, list) else raw.numpy()
        found = list(self.decode(raw))
        if self.limit:
            found = sorted(found, key=lambda f: -f[4])[:self.limit]
        kept, self.suppressed = reference.keep(found, self.thresholds, self.iou)
        boxes = [reference.to_frame(f, back, frame.shape[1], frame.shape[0]) for f in kept]
        return [b for b in boxes if b]

    def text(self):
        """The model file."""
        lines = [f"classes: [{', '.join(CLASSES)}]"] if not self.meta else []
        lines.append(f"confidence: {self.confidence}")
        if self.thresholds != [self.confidence] * C:
            lines.append("class_confidence: {%s: %s}" % (CLASSES[1], self.thresholds[1]))
        return "\n".join(filter(None, [self.yaml] + lines)) + "\n"


def frames():
    """A wide and a tall frame of blocks, BGR."""
    r = np.random.default_rng(6)
    out = {}
    for name, w, h in (("wide", 48, 16), ("tall", 16, 32), ("flat", 48, 20)):
        frame = r.integers(0, 256, (h // 4, w // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        out[name] = np.clip(frame.astype(int) + r.integers(-20, 20, frame.shape), 0, 255).astype(np.uint8)
    return out


def named(head, **more):
    return "\n".join([f"head: {head}"] + [f"{k}: {v}" for k, v in more.items()])


def cases():
    ref = reference
    box = lambda q: ref.detr(q, W, H)
    four = ("num_dets", "det_boxes", "det_scores", "det_classes")
    yield Case("yolox", nets.YOLOX, "yolox", ref.yolox, YOLOX)
    yield Case("yolox-bytes", nets.YOLOXBytes, "yolox", ref.yolox, YOLOX, dtype=torch.uint8)
    yield Case("yolox-decoded", nets.YOLOXDecoded, "yolox-decoded", ref.yolox, YOLOX, named("yolox-decoded"))
    v5 = Case("yolov5", nets.YOLOv5, "yolov5", ref.yolov5, YOLO, named("yolov5"))
    v5.thresholds = [0.4, 0.55, 0.4]
    yield v5
    yield Case("yolov6", nets.YOLOv6, "yolov6", ref.distances, YOLO, named("yolov6"), outputs=("outputs",))
    yield Case("yolov7-end2end", nets.YOLOv7End2End, "yolov7-end2end", ref.distances, YOLO, named("yolov7-end2end"),
               dynamic={"output": {0: "found"}})
    yield Case("efficient-nms", nets.EfficientNMS, "efficient-nms", ref.distances, YOLO,
               named("efficient-nms", colour="rgb", normalise="{scale: 1/255}", letterbox="centre", pad=114), outputs=four)
    yield Case("yolov8", nets.YOLOv8, "yolov8", ref.distances, YOLO, meta=ULTRALYTICS, outputs=("output0",))
    yield Case("yolov8-dynamic", nets.YOLOv8, "yolov8", ref.distances, YOLO, meta=ULTRALYTICS, outputs=("output0",),
               dynamic={"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch", 2: "anchors"}})
    yield Case("yolov8-batch2", nets.YOLOv8, "yolov8", ref.distances, YOLO, meta=ULTRALYTICS, outputs=("output0",), batch=2)
    yield Case("yolov8-half", nets.YOLOv8Half, "yolov8", ref.distances, YOLO, meta=ULTRALYTICS, outputs=("output0",), dtype=torch.float16)
    yield Case("yolov8-nms", nets.YOLOv8NMS, "yolov10", ref.distances, YOLO, meta=ULTRALYTICS, outputs=("output0",))
    yield Case("yolov10", nets.YOLOv10, "yolov10", ref.every_class, YOLO, meta=ULTRALYTICS, outputs=("output0",), iou=None, limit=nets.YOLOv10.ROWS)
    yield Case("rtdetr", nets.RTDETR, "rtdetr", box, DETR, named("rtdetr"), outputs=("logits", "pred_boxes"), iou=None, limit=nets.RTDETR.QUERIES)
    yield Case("rtdetr-ultralytics", nets.RTDETRUltralytics, "rtdetr-ultralytics", lambda q: ref.detr_best(q, W, H), DETR,
               meta=ULTRALYTICS, outputs=("output0",), iou=None)
    yield Case("rtdetr-deploy", nets.RTDETRDeploy, "rtdetr-deploy", box, DETR, named("rtdetr-deploy"), iou=None, limit=nets.RTDETR.QUERIES,
               inputs=("images", "orig_target_sizes"), outputs=("labels", "boxes", "scores"), dynamic={
                   "images": {0: "N"}, "orig_target_sizes": {0: "N"}, "labels": {0: "N"}, "boxes": {0: "N"}, "scores": {0: "N"}})
    yield Case("ssd", nets.SSD, "ssd", lambda v: ref.ssd(v, W, H), SSD, planar=False, outputs=("scores", "boxes"),
               yaml="colour: rgb\nnormalise: {mean: [123, 117, 104], std: [128, 120, 130]}\nletterbox: stretch")
    yield Case("tf-detection", nets.TF, "tf-detection", ref.distances, BYTES, planar=False, dtype=torch.uint8,
               yaml="colour: rgb\nletterbox: stretch",
               outputs=("detection_boxes", "detection_classes", "detection_scores", "num_detections"))


def search(case, shown):
    """The first random network that finds a few things, none of them by a hair, and gives NMS work where there is any."""
    for seed in range(50000):
        torch.manual_seed(seed)
        net = case.net().eval()
        try:
            found, suppressed = {}, 0
            for name, frame in shown.items():
                found[name] = case.find(net, frame)
                suppressed += case.suppressed
                if not 1 <= len(found[name]) <= 14:
                    break
        except reference.Unsure:
            continue
        classes = {d["class"] for f in found.values() for d in f}
        if all(1 <= len(f) <= 14 for f in found.values()) and len(classes) > 1 and (suppressed or case.iou is None):
            return net, found, seed
    sys.exit(f"{case.name}: no seed gives something to find")


def entry(key, value):
    """An element of metadata_props (field 14 of ModelProto): a file may simply be continued with it."""
    field = lambda number, data: bytes([number << 3 | 2]) + varint(len(data)) + data
    return field(14, field(1, key.encode()) + field(2, value.encode()))


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def write(case, net, found, seed):
    example = case.tensor(np.full((H, W, 3), 114, np.uint8))
    args = (example,) if len(case.inputs) == 1 else (example, torch.tensor([[W, H]]))
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, args, data, opset_version=case.opset, input_names=list(case.inputs), output_names=list(case.outputs),
                          dynamic_axes=case.dynamic or {})
    model = data.getvalue() + b"".join(entry(k, v) for k, v in (case.meta or {}).items())
    (HERE / f"{case.name}.onnx").write_bytes(model)
    (HERE / f"{case.name}.yaml").write_text(case.text())
    for f in found.values():
        for d in f:
            d["class"] = CLASSES[d["class"]]
    (HERE / f"{case.name}.json").write_text(json.dumps({
        "seed": seed, "head": case.form, "named": case.yaml.startswith("head:"), "frames": found}, indent=1) + "\n")
    print(f"{case.name}: seed {seed}, {len(model)} bytes, {[len(f) for f in found.values()]} detections")


def main():
    all_frames = frames()
    for name, frame in all_frames.items():
        (HERE / f"{name}.bgr").write_bytes(frame.tobytes())
    only = sys.argv[1:]
    for case in cases():
        if only and case.name not in only:
            continue
        wide = "wide" if case.picture["letterbox"] == "stretch" else "flat"
        write(case, *search(case, {n: all_frames[n] for n in (wide, "tall")}))


if __name__ == "__main__":
    main()
