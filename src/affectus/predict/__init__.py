"""From a run or the model that ships, and a corpus or a recording, to what is expressed."""

from affectus.predict.portable import Exported, export_run
from affectus.predict.predictor import Predictor
from affectus.predict.results import Analysis, Opinion, Utterance
from affectus.predict.table import predict_table, write_predictions

__all__ = [
    "Analysis",
    "Exported",
    "Opinion",
    "Predictor",
    "Utterance",
    "export_run",
    "predict_table",
    "write_predictions",
]
