"""Training in mixed precision: the network's products and convolutions in bfloat16, all else in single precision.

The weights, their gradients and the optimiser stay in single precision, so nothing has to be scaled, and a run's files
are those of any other. Recurrences and gradients that are written out stay in it (:mod:`affectus.nn.precision`), and so
do the losses and the validation after each epoch: what an epoch is judged by is what the trained model says.
Lightning's own mixed precision would put the losses and the validation into bfloat16's reach as well.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from affectus.batches import Batch
from affectus.errors import AffectusError
from affectus.models import ModelOutput
from affectus.nn.precision import single
from affectus.training.config import Precision


def check_precision(precision: Precision, device: torch.device) -> None:
    """Check that a device can train in a precision.

    Raises:
        AffectusError: it is a GPU without bfloat16.
    """
    if precision is Precision.BF16 and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise AffectusError(
            "The GPU has no bfloat16",
            got=torch.cuda.get_device_name(device),
            expected="compute capability 8.0 (Ampere) or later",
            remedy="Leave precision=bf16 out",
        )


def run_model(model: Callable[[Batch], ModelOutput], batch: Batch, precision: Precision) -> ModelOutput:
    """Return a model's output for a batch in single precision, whatever the network computes in.

    Args:
        model: the network, or what is called in its place.
        batch: on the device where the model is.
        precision: of the network.
    """
    if precision is Precision.FP32:
        return model(batch)
    with torch.autocast(batch.mask.device.type, torch.bfloat16):
        output = model(batch)
    return replace(
        output,
        predictions={name: single(x) for name, x in output.predictions.items()},
        extras={name: single(x) for name, x in output.extras.items()},
        read=None if output.read is None else output.read.map(single),
    )
