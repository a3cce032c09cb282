"""A process of its own: blocks by Triton's interpreter, on the CPU, held against PyTorch's in float64.

Prints how far each result is: of a first block and another, by their channels.
"""

import itertools
import json
import sys
from functools import partial

import torch

from pamela_cli.engine.backbones.conv4_gradient import BATCH_NORM_EPS, Block
from pamela_cli.engine.compiling import block_results
from pamela_cli.engine.kernels.block import triton_block

CPU = torch.device("cpu")

torch.backends.cudnn.allow_tf32 = False
found = {}
for channels, first in itertools.product(map(int, sys.argv[1:]), (True, False)):
    shape = (2, 3, channels, 17, 5, 7)
    ours = block_results(partial(triton_block, eps=BATCH_NORM_EPS), shape, CPU, torch.float32, first)
    exact = block_results(Block, shape, CPU, torch.float64, first)
    found[f"{channels} first" if first else f"{channels}"] = [
        float((a - b).norm() / b.norm().clamp_min(1e-30)) for a, b in zip(ours, exact, strict=True)
    ]
print(json.dumps(found))
