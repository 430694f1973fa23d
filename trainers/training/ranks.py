"""One run on several processes: each takes its rows of every batch, gradients are averaged before every step.

The batch is planned for all ranks together; rank r of n takes rows r, r + n, r + 2n, … of it, and of every
random number that an update draws. So n ranks do what one would do with the same batch, up to the order of
sums. Algorithms know nothing of it: their losses are means over rows, and their optimisers are told to
average first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from cogdata.errors import CogError
from trainers.algorithm import Algorithm

_PATIENCE: Final = timedelta(hours=12)
"""How long ranks wait for one that evaluates; one that died is noticed at once."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Attributes:
        index: This one, from 0.
        count: How many there are.
        total: Sums a tensor over all of them, in place.
    """

    index: int = 0
    count: int = 1
    total: Callable[[Tensor], None] = lambda tensor: None

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.index == 0

    def check(self, batch_size: int) -> None:
        """Refuse a batch that cannot be split evenly: the mean of means would not be the mean.

        Raises:
            CogError: As it says.
        """
        if batch_size % self.count:
            raise CogError(
                f"a batch of {batch_size} cannot be split evenly among {self.count} ranks: choose a multiple "
                f"of {self.count} with --set batch_size=…"
            )

    def wait(self) -> None:
        """Go on when all have come here."""
        self.total(torch.zeros(1))

    def agree(self, asked: bool) -> bool:
        """Whether any rank asks for it; the same answer on all of them."""
        if self.count == 1:
            return asked
        votes = torch.tensor([float(asked)])
        self.total(votes)
        return bool(votes[0] > 0)

    def average_gradients(self, learner: Algorithm) -> None:
        """Let every optimiser of a learner average gradients over the ranks before each of its steps."""
        if self.count > 1:
            for optimiser in learner.optimisers.values():
                optimiser.register_step_pre_hook(self._before_step)

    def _before_step(self, optimiser: torch.optim.Optimizer, *_: object) -> None:
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self.total(flat)
        flat /= self.count
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()

    def join(self, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Metrics of the whole batch: the largest ``…_max``, the smallest ``…_min``, means of the others."""
        if self.count == 1:
            return dict(metrics)
        table = torch.zeros(self.count, len(metrics))
        table[self.index] = torch.stack([value.detach().float().cpu() for value in metrics.values()])
        self.total(table)
        columns = dict(zip(metrics, table.unbind(1), strict=True))
        return {name: _joined(name, column) for name, column in columns.items()}

    @contextmanager
    def own_rows(self, batch_size: int) -> Iterator[None]:
        """Cut every draw in this block, made for this rank's rows, out of the draw for the whole batch."""
        if self.count == 1:
            yield
            return
        with _Draws(self, batch_size // self.count):
            yield


def _joined(name: str, values: Tensor) -> Tensor:
    if name.endswith("_max"):
        return values.max()
    return values.min() if name.endswith("_min") else values.mean()


class _Draws(TorchFunctionMode):
    """Draws of a generator: those of the whole batch's rows, of which this rank's are returned."""

    def __init__(self, ranks: Ranks, rows: int) -> None:
        super().__init__()
        self._ranks = ranks
        self._rows = rows

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever torch returns
        named = kwargs or {}
        if named.get("generator") is None:
            return func(*args, **named)
        before, size = _size(func, args)
        dims = [dim for dim, length in enumerate(size) if length == self._rows]
        if len(dims) != 1:
            raise CogError(
                f"{self._rows} rows per rank are not to be told from the other sizes of a draw of "
                f"{tuple(size)}: choose another batch_size"
            )
        size[dims[0]] *= self._ranks.count
        whole = func(*before, tuple(size), **named)
        rows = [slice(None)] * dims[0] + [slice(self._ranks.index, None, self._ranks.count)]
        return whole[tuple(rows)].contiguous()


def _size(func: Callable[..., Any], args: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[int]]:
    """Split the arguments of a draw into those before the size, and the size."""
    if func in (torch.randn, torch.rand):
        return (), list(args[0] if not isinstance(args[0], int) else args)
    if func is torch.randint:
        return args[:-1], list(args[-1])
    name = getattr(func, "__name__", str(func))
    raise CogError(
        f"an update draws with torch's {name}, of which ranks cannot take their rows: use one process"
    )


def ranks_here() -> int:
    """How many ranks torchrun started on this machine, this one among them; 1 without it."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if _by_torchrun() else 1


def device_of_rank(device: str) -> str:
    """The accelerator that is this rank's, where a device without a number is asked for."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and _by_torchrun() else device


def device_to_resume_on(device: str) -> str:
    """Where this rank goes on with a run whose first rank was on this device."""
    return device_of_rank("cuda" if device.startswith("cuda") and ranks_here() > 1 else device)


def _by_torchrun() -> bool:
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def ranks_of_torchrun(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun started; without it, be the only one.

    Args:
        device: Where the learner lives: "cpu", where gloo sums, or "cuda…", where nccl does.
    """
    if not _by_torchrun() or os.environ["WORLD_SIZE"] == "1":
        yield Ranks()
        return
    import torch.distributed as dist

    backend = "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), _total)
    finally:
        dist.destroy_process_group()


def _total(tensor: Tensor) -> None:
    import torch.distributed as dist

    try:
        dist.all_reduce(tensor)
    except RuntimeError as error:
        raise CogError(f"another rank ended: {str(error).splitlines()[0]}") from None
