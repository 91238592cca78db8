"""A sharded model: AdaFisherW under ``fully_shard`` (FSDP2), saved by names and loaded again.

    torchrun --standalone --nproc-per-node=2 examples/fsdp2.py

The optimizer, built after ``fully_shard``, is sharded too; any number of processes can load it.
"""

import time

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.fsdp import fully_shard

from adafisher import AdaFisherW, get_optimizer_state_dict, set_optimizer_state_dict


def build() -> tuple[nn.Module, AdaFisherW]:
    """Shard a model's layers and then the model, and build its optimizer."""
    torch.manual_seed(0)  # of the same weights each process keeps its part
    model = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 4))
    for layer in (model[0], model[2], model):  # the whole comes last
        fully_shard(layer)
    return model, AdaFisherW(model, lr=1e-3, weight_decay=1e-2)


def step(model: nn.Module, optimizer: AdaFisherW, index: int) -> float:
    """Train on points around four centres; each process draws a batch of its own at each step."""
    device = next(model.parameters()).device
    torch.manual_seed(1 + index * dist.get_world_size() + dist.get_rank())
    labels = torch.randint(4, (32,), device=device)
    inputs = 3 * torch.eye(4, 16, device=device)[labels] + torch.randn(32, 16, device=device)
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), labels)
    loss.backward()
    optimizer.step()
    return loss.item()


if __name__ == "__main__":
    dist.init_process_group()  # nccl where there are GPUs, else gloo
    if torch.cuda.is_available():
        torch.cuda.set_device(dist.get_node_local_rank())
    model, optimizer = build()
    losses = [step(model, optimizer, index) for index in range(40)]
    state = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(optimizer)}
    dcp.save(state, checkpoint_id="fsdp2_checkpoint")
    onward = [step(model, optimizer, index) for index in range(40, 50)]
    model, optimizer = build()
    state = {"model": get_model_state_dict(model), "optimizer": get_optimizer_state_dict(optimizer)}
    dcp.load(state, checkpoint_id="fsdp2_checkpoint")
    set_model_state_dict(model, state["model"])
    set_optimizer_state_dict(optimizer, state["optimizer"])
    again = [step(model, optimizer, index) for index in range(40, 50)]
    print(f"loss: first {losses[0]:.3f}, last {losses[-1]:.3f}; same again: {again == onward}")
    time.sleep(0.1)  # a thread of gloo that still puts a tensor down would abort the process
    dist.destroy_process_group()
