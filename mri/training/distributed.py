"""Training in several processes, one per device, started by torchrun or by the stage itself (`train.devices`).

Every process holds the whole network and computes the gradients of its share of each batch; PyTorch averages them
(DDP). So n processes with one n-th of the batch each take the steps of one process with the whole batch. Two things
differ: batch-norm statistics, which are of each process's share (PyTorch can't synchronise them on CPUs), and
augmentation, which each process draws for itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mri.base.errors import UserError

# How long processes wait for one another: a limit on the first process's validation.
TIMEOUT = timedelta(minutes=30)

T = TypeVar("T")


def device() -> torch.device:
    """Return this process's accelerator, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def started_by_torchrun() -> bool:
    """Check whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """Return this process's number; number 0 validates, reports and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def together() -> Iterator[None]:
    """Join the processes that torchrun started while the context lasts; do nothing in a single process."""
    if not started_by_torchrun():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        dist.destroy_process_group()


def parallel(model: nn.Module) -> nn.Module:
    """Wrap `model` so that backward passes average gradients over all processes; a single process gets `model`."""
    return DistributedDataParallel(model) if size() > 1 else model


def share(batch: np.ndarray) -> np.ndarray:
    """Return this process's share of a batch. Raises UserError when the batch can't be divided evenly."""
    if len(batch) % size():
        raise UserError(f"train.batch {len(batch)} can't be divided evenly among {size()} processes")
    return batch[rank() :: size()]


def from_first(value: T) -> T:
    """Return the first process's value in every process."""
    if size() == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def launch(processes: int, module: str, arguments: list[str]) -> bool:
    """Run `python -m module arguments` in several processes of this machine, and return whether that was needed.

    It is not with one process, nor in a process that torchrun has started. Raises UserError when one of the processes
    fails, after which the others are stopped, and when there are too few accelerators.
    """
    if processes == 1 or started_by_torchrun():
        return False
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    if torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise UserError(f"train.devices={processes}, but this machine has {torch.cuda.device_count()} GPUs")
    threads = max(1, (os.cpu_count() or 1) // processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # torchrun's own choice is 1
    try:
        torchrun(["--standalone", "--nproc-per-node", str(processes), "-m", module, *arguments])
    except SignalException:
        raise KeyboardInterrupt from None
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        raise UserError(
            f"training process {number} of {processes} ended with exit code {failure.exitcode} (its own message is "
            "above) and the others were stopped; the last checkpoint is kept"
        ) from None
    return True
