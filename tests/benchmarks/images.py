"""Costs of the image methods as ratios within one run: fixed masks, a Bi-RPT step, decoding and augmentation.

Processor time of one thread, whatever else the machine does; the best of several timings. The full ResNet-18 sees
images of 64 pixels here, as it is slow without a GPU; decoding is measured on JPEG files of ImageNet's usual size.

    python tests/benchmarks/images.py [REPEATS]
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from xyield.image_runs import TESTBED_SETTINGS, ImagePairs
from xyield.images import PaperImages, corrupt_folder, imagenet
from xyield.masks import full_masks, kept_at_zero, prune_smallest
from xyield.methods import BiLevel, BiLevelStage
from xyield.testbed import Images, Testbed
from xyield.training import Hardware, Schedule, Stage, accelerator_for, make_optimizer

SPARSE_LOWER = TESTBED_SETTINGS["CUB-200"].bilevel.lower_every
STEPS, REPEATS = SPARSE_LOWER, 3  # steps: a multiple of SPARSE_LOWER


def seconds(function):
    "The best of several timings, after one that warms up."
    timings = []
    for _ in range(REPEATS + 1):
        began = time.process_time()
        for _ in range(STEPS):
            function()
        timings.append((time.process_time() - began) / STEPS)
    return min(timings[1:])


def random_images(n, classes, size):
    return Images(torch.randn(n, *size), torch.arange(n) % classes)


def steps(data, size, batch):
    "Seconds of a plain step, of one with fixed masks, and of a Bi-RPT step with the lower level each time or not."
    world, accelerator = ImagePairs(data), accelerator_for(Hardware("cpu"))
    schedule, network = Schedule(1, batch, 1e-3, momentum=0.9, weight_decay=1e-4), world.network([0])
    optimizer = make_optimizer(network.parameters(), schedule)
    target, source = (random_images(batch, n, size)[slice(None)] for n in (data.n_target, data.n_source))

    def timed(stage, batch):
        step = stage.step(network, network, world, optimizer, accelerator)
        return seconds(lambda: step(batch, iter([source])))

    result = {"target": timed(Stage("target", schedule), target), "source": timed(Stage("source", schedule), source)}
    with kept_at_zero(network, prune_smallest(network, full_masks(network, world.masked)), optimizer):
        result["masked"] = timed(Stage("target", schedule), target)
    for name, every in (("bilevel", 1), ("bilevel, sparse", SPARSE_LOWER)):
        bilevel = BiLevel(0.01, batch, 1.0, 1e-4, lower_every=every)
        result[name] = timed(BiLevelStage("target", schedule, bilevel=bilevel), target)
    return result


def loading_in_memory(data):
    "Seconds for each image of the testbed, from memory to a batch."
    batches = ImagePairs(data).batches("source", [0], 0, 128)
    n = len(data.source_train())
    return seconds(lambda: [None for _ in batches]) / n


def decoding(folder):
    "Seconds for each ImageNet-sized JPEG: to decode and augment it, and to corrupt it and write it."
    os.environ["XYIELD_DATA"] = str(folder)
    rng, n = np.random.default_rng(0), 8
    train = folder / "imagenet" / "train" / "n01440764"
    train.mkdir(parents=True)
    for i in range(n):  # smooth noise: files of about 100 kB, as ImageNet's
        small = Image.fromarray(rng.integers(0, 256, (94, 125, 3), dtype=np.uint8))
        small.resize((500, 375), Image.Resampling.BICUBIC).save(train / f"n01440764_{i}.JPEG", quality=90)
    images = imagenet()
    decode = seconds(lambda: [images[i] for i in range(n)]) / n
    began = time.process_time()
    corrupt_folder(train.parent, folder / "noisy", "gaussian_noise", 3)
    return decode, (time.process_time() - began) / n


def main(repeats=REPEATS):
    global REPEATS
    REPEATS = repeats
    torch.set_num_threads(1)
    testbed = Testbed(items="digits", source_per_class=50)  # any items: the images have the same size
    rows, measured = [], {}
    for name, data, size, batch in (("testbed", testbed, (1, 28, 56), 64),
                                    ("ResNet-18, 64 pixels", PaperImages(), (3, 64, 64), 16)):
        t = measured[name] = steps(data, size, batch)
        rows.append({"network": name, "batch": batch, "plain step (ms)": 1e3 * t["target"],
                     "images/s": batch / t["target"], "throughput with fixed masks / plain": t["target"] / t["masked"],
                     "Bi-RPT step / target step": t["bilevel"] / t["target"],
                     "/ plain steps on its batches": t["bilevel"] / (t["target"] + t["source"]),
                     f"lower level every {SPARSE_LOWER}: / target step": t["bilevel, sparse"] / t["target"]})
    print(f"torch {torch.__version__}, one thread\n{pd.DataFrame(rows).round(2).to_string(index=False)}\n")
    per_image = loading_in_memory(testbed)
    share = per_image / (per_image + measured["testbed"]["target"] / 64)
    print(f"testbed: making batches is {share:.1%} of the time of training")
    with tempfile.TemporaryDirectory() as folder:
        decode, corrupt = decoding(Path(folder))
    step = measured["ResNet-18, 64 pixels"]["target"] / 16 * (224 / 64) ** 2
    print(f"ImageNet: decoding and augmenting an image takes {1e3 * decode:.1f} ms of a core, {decode / step:.1%} of "
          f"training on it there; a GPU that trains on 3,000 images/s needs {3000 * decode:.0f} such cores\n"
          f"corrupting an image takes {1e3 * corrupt:.0f} ms, ImageNet {1.28e6 * corrupt / 3600:.0f} core hours")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
