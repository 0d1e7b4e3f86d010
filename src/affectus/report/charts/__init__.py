"""Charts as small SVG pictures, each with a table that says the same.

They are drawn for a width of about 360 units, so that their letters stay legible on a telephone, and coloured by the
page's style sheet (classes ``c0`` to ``c7``), so that they follow its light or dark theme. Nothing is fetched or run.
"""

from affectus.report.charts.bars import bias_bars, emotion_bars, negative_bars, scored
from affectus.report.charts.drawing import Chart, Key, Table, count, element, text_number, ticks
from affectus.report.charts.epochs import learning_charts, loss_charts
from affectus.report.charts.heatmaps import heatmap_chart
from affectus.report.charts.maps import map_chart
from affectus.report.charts.probabilities import calibration_chart, threshold_chart
from affectus.report.charts.strips import sample_strip

__all__ = [
    "Chart",
    "Key",
    "Table",
    "bias_bars",
    "calibration_chart",
    "count",
    "element",
    "emotion_bars",
    "heatmap_chart",
    "learning_charts",
    "loss_charts",
    "map_chart",
    "negative_bars",
    "sample_strip",
    "scored",
    "text_number",
    "threshold_chart",
    "ticks",
]
