"""ELAN's annotation format (EAF 3.0, https://www.mpi.nl/tools/elan/EAFv3.0.xsd)."""

import datetime
import mimetypes
from pathlib import Path
from xml.etree import ElementTree

from affectus.predict.exports.tiers import tiers_of
from affectus.predict.results import Analysis

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_TYPE = "default-lt"
_CONSTRAINTS = {
    "Time_Subdivision": "Time subdivision of parent annotation's time interval, no time gaps allowed within this "
    "interval",
    "Symbolic_Subdivision": "Symbolic subdivision of a parent annotation. Annotations refering to the same parent are "
    "ordered",
    "Symbolic_Association": "1-1 association with a parent annotation",
    "Included_In": "Time alignable annotations within the parent annotation's time interval, gaps are allowed",
}
"""As the format itself words them."""


def elan_text(analysis: Analysis) -> str:
    """Return an EAF document: a tier for each of :func:`tiers_of`; the media file is named as lying beside it."""
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "affectus",
            "DATE": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": _INSTANCE,
            "xsi:noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    name = Path(analysis.source).name
    kind = mimetypes.guess_type(name)[0] or ("video/mp4" if analysis.media == "video" else "audio/x-wav")
    if analysis.media != "text":
        place = {"MEDIA_URL": f"./{name}", "RELATIVE_MEDIA_URL": f"./{name}", "MIME_TYPE": kind}
        ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", place)
    order = ElementTree.SubElement(root, "TIME_ORDER")
    slots = annotations = 0
    for tier, marks in tiers_of(analysis).items():
        element = ElementTree.SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": _TYPE, "TIER_ID": _plain(tier)})
        for mark in marks:
            ends = []
            for seconds in (mark.start, mark.end):
                slots += 1
                ends.append(f"ts{slots}")
                value = {"TIME_SLOT_ID": f"ts{slots}", "TIME_VALUE": str(round(seconds * 1000))}
                ElementTree.SubElement(order, "TIME_SLOT", value)
            annotations += 1
            holder = ElementTree.SubElement(element, "ANNOTATION")
            given = {"ANNOTATION_ID": f"a{annotations}", "TIME_SLOT_REF1": ends[0], "TIME_SLOT_REF2": ends[1]}
            alignable = ElementTree.SubElement(holder, "ALIGNABLE_ANNOTATION", given)
            ElementTree.SubElement(alignable, "ANNOTATION_VALUE").text = _plain(mark.text)
    about = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": _TYPE, "TIME_ALIGNABLE": "true"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", about)
    for stereotype, description in _CONSTRAINTS.items():
        ElementTree.SubElement(root, "CONSTRAINT", {"DESCRIPTION": description, "STEREOTYPE": stereotype})
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _plain(text: str) -> str:
    """Return a text without characters that XML cannot hold."""
    ranges = ((0x20, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF))
    return "".join(c for c in text if c in "\t\n\r" or any(low <= ord(c) <= high for low, high in ranges))
