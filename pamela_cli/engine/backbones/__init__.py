"""Networks as pure functions of (θ, input), for several tasks at once."""

from pamela_cli.engine.backbones.base import Backbone, NormStats
from pamela_cli.engine.backbones.conv4 import Conv4
from pamela_cli.engine.backbones.mlp import MLP

__all__ = ["MLP", "Backbone", "Conv4", "NormStats"]
