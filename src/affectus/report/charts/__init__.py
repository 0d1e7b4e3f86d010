"""Charts as small SVG pictures, each with a table that says the same.

They are drawn for a width of about 360 units, so that their letters stay legible on a telephone, and coloured by the
page's style sheet (classes ``c0`` to ``c7``), so that they follow its light or dark theme. Nothing is fetched or run.
"""

from affectus.report.charts.bars import emotion_bars, scored
from affectus.report.charts.drawing import Chart, Key, Table, count, element, text_number, ticks
from affectus.report.charts.epochs import learning_charts
from affectus.report.charts.heatmaps import heatmap_chart
from affectus.report.charts.probabilities import calibration_chart, threshold_chart

__all__ = [
    "Chart",
    "Key",
    "Table",
    "calibration_chart",
    "count",
    "element",
    "emotion_bars",
    "heatmap_chart",
    "learning_charts",
    "scored",
    "text_number",
    "threshold_chart",
    "ticks",
]
