"""Small networks whose graphs end as those of each family's exporter do.

The weights are random; what matters is the form of the outputs. Each network
has raw(), what its head says, from which reference.py decodes on its own, and
forward(), what the exporter's graph does with that.
"""
import torch
from torch import nn

W, H, C = 96, 64, 3  # pixels of the input, and classes
STRIDES = (8, 16, 32)
ANCHORS = ((10, 13, 16, 30, 33, 23), (30, 61, 62, 45, 59, 119), (116, 90, 156, 198, 373, 326))


class Backbone(nn.Module):
    def __init__(self, per_cell, gain):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, 4)
        self.downs = nn.ModuleList([nn.Conv2d(6, 8, 2, 2), nn.Conv2d(8, 8, 2, 2), nn.Conv2d(8, 8, 2, 2)])
        self.heads = nn.ModuleList([nn.Conv2d(8, per_cell, 1) for _ in STRIDES])
        for head in self.heads:
            nn.init.normal_(head.weight, std=gain)
            nn.init.normal_(head.bias, std=gain)

    def forward(self, x):
        levels, x = [], torch.tanh(self.stem(x))
        for down, head in zip(self.downs, self.heads):
            x = torch.tanh(down(x))
            levels.append(head(x))
        return levels


def grid(level, stride):
    """Column and row of each cell, and the stride, row by row."""
    rows, columns = level.shape[2], level.shape[3]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack((x, y), 2).reshape(1, -1, 2).float(), torch.full((1, rows * columns, 1), float(stride))


class Net(nn.Module):
    """scale and shift are how the pictures that the network wants come to small numbers."""
    per_cell, gain = 5 + C, 1.0
    mean, std = 0.4, 0.1
    quiet, by = slice(4, 5), 1.0  # the numbers of a cell that are made smaller, so that few boxes are confident

    def __init__(self):
        super().__init__()
        self.backbone = Backbone(self.per_cell, self.gain)
        for head in self.backbone.heads:
            head.bias.data[self.quiet] -= self.by

    def raw(self, x):
        return self.backbone((x - self.mean) / self.std)

    def flat(self, x):
        """Cells × what each says, of all levels."""
        return torch.cat([level.flatten(2).transpose(1, 2) for level in self.raw(x)], 1)

    def grids(self, x):
        pairs = [grid(level, s) for level, s in zip(self.raw(x), STRIDES)]
        return torch.cat([g for g, _ in pairs], 1), torch.cat([s for _, s in pairs], 1)


class YOLOX(Net):
    """Megvii YOLOX, tools/export_onnx.py: sigmoid of objectness and classes, boxes as they are."""
    mean, std = 110.0, 60.0

    def forward(self, x):
        o = self.flat(x)
        return torch.cat((o[..., :4], o[..., 4:].sigmoid()), -1)


class YOLOXDecoded(YOLOX):
    """The same with --decode_in_inference."""

    def forward(self, x):
        o = super().forward(x)
        cells, stride = self.grids(x)
        return torch.cat(((o[..., :2] + cells) * stride, o[..., 2:4].exp() * stride, o[..., 4:]), -1)


class YOLOXBytes(YOLOX):
    """A graph that takes the bytes themselves, as planes."""

    def forward(self, x):
        return super().forward(x.float())

    def raw(self, x):
        return super().raw(x.float())


class YOLOv5(Net):
    """YOLOv5 models/yolo.py Detect, and YOLOv7's IDetect: three anchors a cell."""
    per_cell = 3 * (5 + C)
    quiet, by = slice(4, None, 5 + C), 3.0

    def forward(self, x):
        out = []
        for level, stride, anchors in zip(self.raw(x), STRIDES, ANCHORS):
            b, _, rows, columns = level.shape
            y = level.view(b, 3, 5 + C, rows, columns).permute(0, 1, 3, 4, 2).sigmoid()
            cells = grid(level, stride)[0].view(1, 1, rows, columns, 2)
            sizes = torch.tensor(anchors).float().view(1, 3, 1, 1, 2)
            xy = (y[..., :2] * 2 - 0.5 + cells) * stride
            out.append(torch.cat((xy, (y[..., 2:4] * 2) ** 2 * sizes, y[..., 4:]), -1).view(b, -1, 5 + C))
        return torch.cat(out, 1)


class YOLOv6(Net):
    """YOLOv6 effidehead.py: distances to the four sides, and an objectness of 1."""
    per_cell = 4 + C
    quiet, by = slice(4, None), 3.0

    def corners(self, x):
        o = self.flat(x)
        cells, stride = self.grids(x)
        reach = nn.functional.softplus(o[..., :4])
        centre = cells + 0.5
        return (centre - reach[..., :2]) * stride, (centre + reach[..., 2:]) * stride, o[..., 4:].sigmoid()

    def forward(self, x):
        low, high, scores = self.corners(x)
        return torch.cat(((low + high) / 2, high - low, torch.ones_like(scores[..., :1]), scores), -1)


class YOLOv8(YOLOv6):
    """Ultralytics' Detect: 4 + classes rows of all cells."""

    def forward(self, x):
        low, high, scores = self.corners(x)
        return torch.cat(((low + high) / 2, high - low, scores), -1).transpose(1, 2)


class YOLOv8Half(YOLOv8):
    """half=True: the first and last tensors are float16. PyTorch cannot convolve those on a CPU, so the graph casts."""

    def forward(self, x):
        return super().forward(x.float()).half()

    def raw(self, x):
        return super().raw(x.float())


class NMS(torch.autograd.Function):
    """ONNX' NonMaxSuppression, which the exporters of YOLOv6 and YOLOv7 put in the graph in this way."""

    @staticmethod
    def forward(ctx, boxes, scores, most, iou, score):
        return torch.tensor([[0, 0, 0], [0, 0, 1]])

    @staticmethod
    def symbolic(g, boxes, scores, most, iou, score):
        return g.op("NonMaxSuppression", boxes, scores, most, iou, score)


def select(low, high, scores, iou, confidence, most=100):
    """The image, box and class of what NMS keeps, boxes of different classes moved apart."""
    best, of = scores.max(2, keepdim=True)
    apart = of.float() * 4096
    boxes = torch.cat((low + apart, high + apart), -1)
    picked = NMS.apply(boxes, best.transpose(1, 2), torch.tensor([most]), torch.tensor([iou]), torch.tensor([confidence]))
    image, box = picked[:, 0], picked[:, 2]
    corners = torch.cat((low, high), -1)[image, box]
    return image, corners, best[image, box], of[image, box]


class YOLOv7End2End(YOLOv6):
    """YOLOv7 export.py --end2end --max-wh, YOLOv6's --end2end --ort: rows of image, corners, class, score."""

    def forward(self, x):
        image, corners, score, of = select(*self.corners(x), 0.45, 0.25)
        return torch.cat((image.unsqueeze(1).float(), corners, of.float(), score), 1)


class Padded(YOLOv6):
    """Rows of NMS filled up to ROWS, the most confident first."""
    ROWS = 30

    def padded(self, x):
        _, corners, score, of = select(*self.corners(x), 0.45, 0.25)
        rows = torch.cat((corners, score, of.float()), 1)
        fill = torch.cat((rows, torch.zeros(self.ROWS, 6)), 0)
        order = fill[:, 4].topk(self.ROWS)[1]
        return fill[order].unsqueeze(0), torch.full((1, 1), 0, dtype=torch.int64) + torch.tensor(1) * rows.shape[0]


class YOLOv8NMS(Padded):
    """Ultralytics' nms=True: rows of corners, score, class, zeros after the last."""

    def forward(self, x):
        return self.padded(x)[0].reshape(1, self.ROWS, 6)


class EfficientNMS(Padded):
    """The outputs of TensorRT's plugin EfficientNMS_TRT, by standard operators."""

    def forward(self, x):
        rows, number = self.padded(x)
        rows = rows.reshape(1, self.ROWS, 6)
        return number.int().reshape(1, 1), rows[..., :4], rows[..., 4], rows[..., 5].int()


class YOLOv10(YOLOv6):
    """Ultralytics' end2end head: the best of all cells' class scores, without NMS."""
    ROWS = 20

    def forward(self, x):
        low, high, scores = self.corners(x)
        boxes = torch.cat((low, high), -1)
        cells = scores.amax(-1).topk(self.ROWS)[1].unsqueeze(-1)
        boxes, scores = boxes.gather(1, cells.expand(-1, -1, 4)), scores.gather(1, cells.expand(-1, -1, C))
        best, at = scores.flatten(1).topk(self.ROWS)
        boxes = boxes.gather(1, torch.div(at, C, rounding_mode="floor").unsqueeze(-1).expand(-1, -1, 4))
        return torch.cat((boxes, best.unsqueeze(-1), (at % C).unsqueeze(-1).float()), -1)


class RTDETR(Net):
    """RT-DETR's decoder output: logits of each query, and its box after the sigmoid."""
    per_cell, gain, QUERIES = 4 + C, 1.2, 24
    quiet, by = slice(4, None), 2.5

    def raw(self, x):
        o = torch.cat([level.flatten(2).transpose(1, 2) for level in super().raw(x)], 1)
        queries = o[..., 4:].amax(-1).topk(self.QUERIES)[1].unsqueeze(-1)
        return o.gather(1, queries.expand(-1, -1, 4 + C))

    def forward(self, x):
        o = self.raw(x)
        return o[..., 4:], o[..., :4].sigmoid()


class RTDETRUltralytics(RTDETR):
    """Ultralytics' RTDETRDecoder: boxes and the sigmoid of the logits in one."""

    def forward(self, x):
        return self.raw(x).sigmoid()


class RTDETRDeploy(RTDETR):
    """lyuwenyu/RT-DETR and D-FINE, tools/export_onnx.py with their postprocessor in deploy mode."""

    def forward(self, images, orig_target_sizes):
        logits, boxes = super().forward(images)
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        corners = torch.cat((centre - half, centre + half), -1) * orig_target_sizes.repeat(1, 2).unsqueeze(1)
        scores, at = logits.sigmoid().flatten(1).topk(self.QUERIES)
        box = torch.div(at, C, rounding_mode="floor").unsqueeze(-1).expand(-1, -1, 4)
        return at % C, corners.gather(1, box), scores


class SSD(Net):
    """qfgaohao/pytorch-ssd, convert_to_caffe2_models.py: softmax with the background first, corners in [0, 1].
    The graph takes rows of interleaved channels."""
    per_cell = 5 + C  # four of the box, the background, the classes
    gain = 1.5
    mean, std = 0.0, 0.5
    quiet, by = slice(5, None), 3.0

    def raw(self, x):
        return super().raw(x.permute(0, 3, 1, 2))

    def forward(self, x):
        o = self.flat(x)
        cells, stride = self.grids(x)
        size = torch.tensor([W, H])
        prior, side = (cells + 0.5) * stride / size, 3 * stride / size
        centre = o[..., :2] * 0.1 * side + prior
        half = (o[..., 2:4] * 0.2).exp() * side / 2
        return o[..., 4:].softmax(-1), torch.cat((centre - half, centre + half), -1)


class TF(Padded):
    """The outputs of TensorFlow's Object Detection API: uint8 NHWC in, classes from 1, corners y first in [0, 1]."""
    mean, std = 110.0, 60.0

    def raw(self, x):
        return super().raw(x.permute(0, 3, 1, 2).float())

    def forward(self, x):
        rows, number = self.padded(x)
        boxes = rows[..., [1, 0, 3, 2]] / torch.tensor([H, W, H, W])
        return boxes, rows[..., 5] + 1, rows[..., 4], number.reshape(1).float()
