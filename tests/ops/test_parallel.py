"""A block of our operators in DDP and FSDP2: gradients of two processes equal those of one."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from ctscribe.model.bridge import VimBlock

PROCESSES = 2


def loss_of(block: nn.Module, x: Tensor) -> Tensor:
    return block(x).square().mean()


def parallel(kind: str, block: VimBlock) -> nn.Module:
    if kind == "ddp":
        return DistributedDataParallel(block)
    mesh = init_device_mesh("cpu", (PROCESSES,))
    for part in (*block.directions, block):
        fully_shard(part, mesh=mesh)
    return block


def work(rank: int, meeting_point: str) -> None:
    """One process: its share of the batch, then all gradients against those of the whole batch."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=PROCESSES
    )
    torch.manual_seed(0)
    x = torch.randn(2 * PROCESSES, 13, 16)
    single = VimBlock(16, 8)
    loss_of(single, x).backward()
    for kind in ("ddp", "fsdp2"):
        block = VimBlock(16, 8)
        block.load_state_dict(single.state_dict())
        module = parallel(kind, block)
        for _ in range(2):  # FSDP frees the parameters and gathers them again
            block.zero_grad()
            loss_of(module, x.chunk(PROCESSES)[rank]).backward()
        for (name, p), q in zip(block.named_parameters(), single.parameters(), strict=True):
            grad = p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad
            torch.testing.assert_close(grad, q.grad, rtol=1e-4, atol=1e-6, msg=f"{kind}: {name}")
    dist.destroy_process_group()


def test_gradients_equal_those_of_one_process(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (str(tmp_path / "meet"),), nprocs=PROCESSES)
