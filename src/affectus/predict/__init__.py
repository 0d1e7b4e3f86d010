"""From a run and a corpus to a table of predictions."""

from affectus.predict.table import predict_table, write_predictions

__all__ = ["predict_table", "write_predictions"]
