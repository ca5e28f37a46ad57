"""A world that takes milliseconds: points on a plane. Also for processes that the tests start."""

import os
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from xyield.methods import BiLevel, Settings
from xyield.training import Schedule, World

SCHEDULE = Schedule(2, 8, 0.1, momentum=0.5, weight_decay=1e-3)
SETTINGS = Settings(SCHEDULE, SCHEDULE, BiLevel(0.05, 8, 10.0, 1e-3))


def said(word: str):
    "Append a line to the file `$XYIELD_SAID`, whole also if several processes do so."
    if "XYIELD_SAID" in os.environ:
        handle = os.open(os.environ["XYIELD_SAID"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{word}\n".encode())
        os.close(handle)


class Counting(nn.Sequential):
    "Two layers without batch normalisation; counts the examples that it has seen in training."

    def __init__(self):
        super().__init__(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.seen += len(x) * self.training
        return super().forward(x)


@dataclass(frozen=True)
class Plane(World):
    "24 points of the source and 16 of the target: two labels, and two directions that tell them apart."

    loaders: bool = False  # batches from a `DataLoader`

    def network(self, seeds):
        said("network")
        with torch.random.fork_rng():
            torch.manual_seed(seeds[0])
            return Counting()

    def batches(self, domain, seeds, epoch, batch_size):
        n = 24 if domain == "source" else 16
        x = torch.randn(n, 3, generator=torch.Generator().manual_seed(n))
        y = (x[:, 0] + (domain == "target") * x[:, 1] > 0).long()
        order = torch.randperm(n, generator=torch.Generator().manual_seed(1000 * seeds[0] + epoch))
        if self.loaders:
            data = torch.utils.data.TensorDataset(x[order], y[order])
            return torch.utils.data.DataLoader(data, batch_size)
        return [(x[i], y[i]) for i in order.split(batch_size)]

    def loss(self, network, batch, domain):
        return F.cross_entropy(network(batch[0]), batch[1])

    def evaluate(self, network, domain, seeds, history):
        return {}
