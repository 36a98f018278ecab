#!/usr/bin/python3
"""Writes batch_dynamic.onnx and batch_2.onnx: a network in the form of YOLOX
(one class, input 64x64) with random weights, its batch open and fixed at 2.
They show what a batch does to a result, and detect nothing.

    /usr/bin/python3 vision/onnx/testdata/batch.py    (Debian's python3-torch 1.13)
"""

import pathlib

import torch
from torch import nn


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.ReLU())
        self.down = nn.ModuleList(nn.Conv2d(8, 8, 3, stride=2, padding=1) for _ in range(2))
        self.out = nn.ModuleList(nn.Conv2d(8, 6, 1) for _ in range(3))

    def forward(self, images):
        x, rows = self.stem(images / 255), []
        for i, out in enumerate(self.out):
            if i:
                x = torch.relu(self.down[i - 1](x))
            y = out(x)
            y = torch.cat([y[:, :4], torch.sigmoid(40 * (y[:, 4:] - y[:, 4:].mean((2, 3), keepdim=True)))], 1)
            rows.append(y.flatten(2))
        return torch.cat(rows, 2).permute(0, 2, 1)


torch.manual_seed(6)
here = pathlib.Path(__file__).parent
model = Tiny().eval()
names = dict(input_names=["images"], output_names=["output"], opset_version=13)
example = torch.rand(2, 3, 64, 64) * 255
torch.onnx.export(model, example, str(here / "batch_2.onnx"), **names)
torch.onnx.export(model, example, str(here / "batch_dynamic.onnx"), dynamic_axes={"images": {0: "n"}, "output": {0: "n"}}, **names)
