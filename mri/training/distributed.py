"""Training in several processes, one per device, that torchrun starts (or the train stage itself, see `train.devices`).

Every process holds the whole network and computes the gradients of its share of each batch; PyTorch averages them
(DDP). So n processes with one n-th of the batch each take the steps that one process would take with all of it. What
differs is batch norm, whose statistics are of each process's own share (PyTorch can't synchronise them on CPUs), and
the random changes of images, which each process draws for itself.
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

# How long processes wait for one another: the longest that the first may take to validate.
TIMEOUT = timedelta(minutes=30)

T = TypeVar("T")


def device() -> torch.device:
    """This process's accelerator, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def started_by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank() -> int:
    """This process's number among all; the one with 0 validates, reports and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def together() -> Iterator[None]:
    """Join the processes that torchrun started, for as long as the context lasts. Alone, it does nothing."""
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
    """`model` with gradients averaged over all processes by every backward pass; alone, `model` itself."""
    return DistributedDataParallel(model) if size() > 1 else model


def share(batch: np.ndarray) -> np.ndarray:
    """What of a whole batch this process computes. Raises UserError when it can't be divided evenly."""
    if len(batch) % size():
        raise UserError(f"train.batch {len(batch)} can't be divided evenly among {size()} processes")
    return batch[rank() :: size()]


def from_first(value: T) -> T:
    """What the first process gave, in every process."""
    if size() == 1:
        return value
    box: list[Any] = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def launch(processes: int, module: str, arguments: list[str]) -> bool:
    """Run `python -m module arguments` in `processes` processes of this machine; False where that is not needed.

    It isn't where one process is enough, or where torchrun has started this one already.
    Raises UserError when one of them fails, after which the others are stopped, or when there are too few accelerators.
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
