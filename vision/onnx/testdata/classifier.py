"""Makes classifier.onnx and classifier.json: a small image classifier as
PyTorch exports them, and what PyTorch itself says of some pictures.

    /usr/bin/python3 classifier.py        (python3-torch 1.13)

The weights are set, not trained: the first three outputs are the mean of red,
green and blue after a convolution that passes them on, so that the answer for
a plain picture is known; the rest of the graph is what such models consist of.
"""
import json

import torch
from torch import nn


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(8, 3)
        torch.manual_seed(1)
        with torch.no_grad():
            conv, norm = self.features[0], self.features[1]
            conv.weight.mul_(0.05)
            for c in range(3):
                conv.weight[c, c, 1, 1] = 1.0
            conv.bias.fill_(3.0)  # above what ReLU cuts off
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.8, 1.2)
            self.head.weight.mul_(0.05)
            for c in range(3):
                self.head.weight[c, c] = 2.0

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
model = Classifier().eval()
answers = []
for rgb in ((200, 40, 40), (40, 200, 40), (40, 40, 200), (90, 100, 80), (255, 255, 0)):
    x = torch.tensor([(v / 255 - m) / s for v, m, s in zip(rgb, MEAN, STD)]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    with torch.no_grad():
        answers.append({"rgb": rgb, "scores": torch.softmax(model(x), 1)[0].tolist()})
torch.onnx.export(model, torch.zeros(1, 3, 32, 32), "classifier.onnx", input_names=["input"], output_names=["logits"], opset_version=13)
with open("classifier.json", "w") as f:
    json.dump(answers, f, indent=1)
    f.write("\n")
