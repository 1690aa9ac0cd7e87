"""Stands in for a training module: the ranks meet and each writes down what it was told."""

import os
import sys
from pathlib import Path

import torch

torch.distributed.init_process_group("gloo")
ones = torch.ones(1)
torch.distributed.all_reduce(ones)
rank = torch.distributed.get_rank()
told = " ".join(sys.argv[1:])
Path(os.environ["MET"], f"rank-{rank}").write_text(f"{int(ones)} ranks: {told}")
torch.distributed.destroy_process_group()
