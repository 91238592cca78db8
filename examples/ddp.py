"""Data parallel training: AdaFisherW under DistributedDataParallel, two processes on one machine.

    torchrun --standalone --nproc-per-node=2 examples/ddp.py

The optimizer is built on the bare model, and pools at each step what all processes have seen.
"""

import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from adafisher import AdaFisherW

EPOCHS, BATCH = 4, 32  # of each process


def main() -> None:
    """Train a small network on points around four centres, in each process its share."""
    on_gpu = torch.cuda.is_available()
    dist.init_process_group("nccl" if on_gpu else "gloo")
    device = torch.device("cuda", dist.get_node_local_rank()) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)

    torch.manual_seed(0)  # the same data and the same start in every process
    labels = torch.randint(4, (640,))
    data = TensorDataset(2 * torch.randn(4, 16)[labels] + torch.randn(640, 16), labels)
    sampler: DistributedSampler = DistributedSampler(data)
    model = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 4)).to(device)
    optimizer = AdaFisherW(model, lr=1e-3, weight_decay=1e-2)
    wrapped = DistributedDataParallel(model)

    losses = []
    for epoch in range(EPOCHS):
        sampler.set_epoch(epoch)
        for inputs, targets in DataLoader(data, batch_size=BATCH, sampler=sampler):
            optimizer.zero_grad()
            loss = F.cross_entropy(wrapped(inputs.to(device)), targets.to(device))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    weights = torch.cat([param.detach().flatten() for param in model.parameters()])
    first = weights.clone()
    dist.broadcast(first, src=0)
    if dist.get_rank() == 0:
        print(f"loss: first {losses[0]:.3f}, last {losses[-1]:.3f}")
    print(f"process {dist.get_rank()}: same weights as process 0: {torch.equal(weights, first)}")
    time.sleep(0.1)  # a thread of gloo that still puts a tensor down would abort the process
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
