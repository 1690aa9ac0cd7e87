"""What a step costs: time, and memory that is kept for the backward pass."""

import gc
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def seconds(step: Callable[[], None], device: str) -> tuple[float, int]:
    """Time of one step and the most bytes that the GPU held during it.

    On a CPU these are CPU seconds of the process, and 0 bytes. What earlier steps left in cycles is
    freed before, so that it does not count.
    """
    if device == "cpu":
        start = time.process_time()
        step()
        return time.process_time() - start, 0
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    step()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1000, torch.cuda.max_memory_allocated()


def saved_bytes(forward: Callable[[], Tensor], parameters: Iterable[Tensor]) -> int:
    """Bytes that a forward pass keeps for its backward pass, in distinct storages.

    `parameters` do not count.
    """
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        # Not the tensor itself: an output that its own graph holds would never be freed.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = forward()
    total = sum(sizes.values())
    del loss  # freed only now that every storage is counted
    return total
