"""A run's trained text encoder, written as a folder that makes text features of any corpus."""

from pathlib import Path

from torch import nn

from affectus.errors import AffectusError
from affectus.features.encoders import ALL, load_encoder
from affectus.files import atomic_path
from affectus.models.with_text import TextModel
from affectus.training.loading import Run


def export_encoder(run: Run, out: str | Path, *, seed: int | None = None) -> Path:
    """Write the text encoder of a run's model as Hugging Face has it: configuration, safetensors, tokenizer.

    Args:
        run: trained with ``text_encoder`` and ``text_layers`` other than 0.
        out: a folder that is not there yet.
        seed: whose model; None for the first.

    Returns:
        The folder, which is an encoder for ``affectus features text --encoder`` and ``--text-encoder``.

    Raises:
        AffectusError: the run trained no text encoder, has no such seed, or the folder is there.
    """
    out, settings = Path(out), run.config.training
    chosen = run.seeds[0] if seed is None else seed
    if chosen not in run.seeds:
        raise AffectusError(
            "The run has no such seed",
            got=chosen,
            expected="one of: " + ", ".join(map(str, run.seeds)),
            where=run.folder,
        )
    if settings.text_encoder is None or not settings.text_layers:
        raise AffectusError(
            "The run has not trained a text encoder",
            where=run.folder,
            remedy="Train one with: affectus train MODEL CORPUS --text-encoder minilm --set text_layers=2",
        )
    if out.exists():
        raise AffectusError("The folder is there already", where=out, remedy="Choose another, or delete this one")
    model = run.model(chosen)
    if not isinstance(model, TextModel):
        raise AffectusError(
            "The run has a text encoder for each task (select=per_task)",
            where=run.folder,
            remedy="Select by one figure",
        )
    encoder = load_encoder(settings.text_encoder)
    trained, whole = model.encoder.layers, encoder.model
    if settings.text_layers == ALL:
        # what nothing reads (a pooler) was left out of training and stays as it was
        whole.load_state_dict(trained.state_dict(), strict=False)
    else:
        theirs, ours = _layers(trained, settings.text_layers), _layers(whole, encoder.layers)
        for layer, target in zip(theirs, list(ours)[-settings.text_layers :], strict=True):
            target.load_state_dict(layer.state_dict())
    with atomic_path(out) as temporary:
        whole.save_pretrained(temporary)
        encoder.tokenizer.save_pretrained(temporary)
    return out


def _layers(module: nn.Module, count: int) -> nn.ModuleList:
    return next(m for m in module.modules() if isinstance(m, nn.ModuleList) and len(m) == count)
