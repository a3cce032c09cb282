"""A process of its own: blocks by Triton's interpreter, on the CPU, held against PyTorch's in float64.

Prints, for each number of channels, how far the furthest of the twelve results is.
"""

import json
import sys
from functools import partial

import torch

from pamela_cli.engine.backbones.conv4_gradient import BATCH_NORM_EPS, Block
from pamela_cli.engine.compiling import block_results
from pamela_cli.engine.kernels.block import TritonBlock

CPU = torch.device("cpu")

torch.backends.cudnn.allow_tf32 = False
found = {}
for channels in map(int, sys.argv[1:]):
    shape = (2, 3, channels, 17, 5, 7)
    ours = block_results(partial(TritonBlock, eps=BATCH_NORM_EPS), shape, CPU, torch.float32)
    exact = block_results(Block, shape, CPU, torch.float64)
    found[channels] = [
        float((a - b).norm() / b.norm().clamp_min(1e-30)) for a, b in zip(ours, exact, strict=True)
    ]
print(json.dumps(found))
