"""The network of the line's detector: one stage, one scale, no anchors."""

import torch
from torch import nn

WIDTH, HEIGHT, STRIDE = 640, 384, 8
CLASSES = ("part", "scratch", "dent", "missing_hole", "stain")


def conv(cin, cout, kernel=3, stride=1):
    """A convolution whose batch normalisation the export folds into it."""
    return nn.Sequential(
        nn.Conv2d(cin, cout, kernel, stride, (kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(cout, momentum=0.03),
        nn.ReLU(inplace=True),
    )


class Eye(nn.Module):
    """The first layer: filters that mostly see differences, with a high gain, and saturate.

    A flaw differs from the surface around it by a tenth of what the surface
    differs from a hole or the belt. Behind filters that say both as they are it
    is lost: the network then learns outlines and nothing finer.
    """

    GAIN, PLAIN = 4.0, 3  # PLAIN filters start as they are, and keep brightness

    def __init__(self, c):
        super().__init__()
        self.conv = nn.Conv2d(3, c, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(c, momentum=0.03)
        nn.init.constant_(self.norm.weight, self.GAIN)
        with torch.no_grad():
            fine = self.conv.weight[self.PLAIN:]
            fine -= fine.mean((1, 2, 3), keepdim=True)
            nn.init.constant_(self.norm.weight[:self.PLAIN], 1.0)

    def forward(self, x):
        return nn.functional.hardtanh(self.norm(self.conv(x)))


class Residual(nn.Module):
    def __init__(self, c, mid):
        super().__init__()
        self.body = nn.Sequential(conv(c, mid, 1 if mid < c else 3), conv(mid, c))

    def forward(self, x):
        return x + self.body(x)


class LineNet(nn.Module):
    """Maps pictures (N, 3, H, W), in [0, 1], to (N, 4 + classes, H/8, W/8).

    Of each cell, in units of the stride: the box's centre from the cell's own,
    x and y, and the logarithms of its width and height; then the classes' logits.
    """

    def __init__(self, c1=32, c2=48, c3=64):
        super().__init__()
        self.eye = Eye(16)
        self.stem = conv(16, c1, 3, 2)
        self.fine = nn.Sequential(conv(c1, c2, 3, 2), Residual(c2, c2 // 2 // 16 * 16 or 16))
        self.middle = nn.Sequential(conv(c2, c3, 3, 2), Residual(c3, c3 // 2))
        self.coarse = nn.Sequential(conv(c3, c3, 3, 2), Residual(c3, c3 // 2))
        self.up_coarse = conv(c3, c3, 1)
        self.up_middle = conv(c3, c2, 1)
        self.head = conv(c2, c1)
        self.out = nn.Conv2d(c1, 4 + len(CLASSES), 1)
        nn.init.constant_(self.out.bias[:4], 0.0)
        nn.init.constant_(self.out.bias[4:], -5.0)

    def forward(self, x):
        fine = self.fine(self.stem(self.eye(x)))
        middle = self.middle(fine)
        coarse = self.up_coarse(self.coarse(middle))
        middle = middle + nn.functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        fine = fine + nn.functional.interpolate(self.up_middle(middle), scale_factor=2.0, mode="nearest")
        return self.out(self.head(fine))


class Exported(nn.Module):
    """LineNet with what a runtime should not have to know.

    Takes uint8 (N, H, W, 3) in blue, green, red and gives (N, 4 + classes,
    cells): centre x, centre y, width and height in pixels of the input, then
    the classes' scores in [0, 1], as YOLOv8 lays them out.
    """

    def __init__(self, net, width=WIDTH, height=HEIGHT):
        super().__init__()
        self.net = net
        ys, xs = torch.meshgrid(torch.arange(height // STRIDE), torch.arange(width // STRIDE), indexing="ij")
        centres = torch.stack((xs, ys)).float().add(0.5).mul(STRIDE)
        self.register_buffer("centres", centres.reshape(1, 2, -1))

    def forward(self, x):
        y = self.net(x.permute(0, 3, 1, 2).float() * (1 / 255)).reshape(-1, 4 + len(CLASSES), self.centres.shape[2])
        return torch.cat((self.centres + y[:, :2] * STRIDE, y[:, 2:4].exp() * STRIDE, y[:, 4:].sigmoid()), 1)


def export(net, path, width=WIDTH, height=HEIGHT):
    """Writes the network as ONNX with a batch of any size."""
    net = Exported(net.eval(), width, height).eval()
    picture = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    torch.onnx.export(net, picture, path, opset_version=13, input_names=["images"], output_names=["boxes"],
                      dynamic_axes={"images": {0: "batch"}, "boxes": {0: "batch"}})
