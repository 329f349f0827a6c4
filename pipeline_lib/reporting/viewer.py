"""The slice viewer: NiiVue from its published npm package, embedded in the page with the cases that it shows.

`npm ci --prefix pipeline_lib/reporting/viewer` installs it. A report made without it says so and is otherwise complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .results import Results, method_label, roi_label
from .scans import Scan
from .style import method_colours, roi_colours
from .viewer_data import embedded_cases
from .windows import LUNG, choices

INSTALL = "npm ci --ignore-scripts --prefix pipeline_lib/reporting/viewer"
NIIVUE = Path(__file__).parent / "viewer" / "node_modules" / "@niivue" / "niivue" / "dist" / "niivue.umd.js"
_TEMPLATES = Path(__file__).with_name("templates")


def viewer_markup(results: Results, scans: Mapping[tuple[str, str], Scan], runs: Mapping[str, str]) -> Markup:
    """The viewer with its cases as a part of the page; a notice if NiiVue is not installed or there is no case."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    template = environment.get_template("viewer.html.j2")
    if not NIIVUE.is_file():
        return Markup(template.render(missing=INSTALL))
    cases = embedded_cases(results, scans, runs)
    windows = choices(_stored_window(cases))
    colours = method_colours(results.methods)
    data = {
        "cases": cases,
        "rois": [roi_label(roi) for roi in results.rois],
        "roiNames": list(results.rois),
        "roiColours": roi_colours(results.rois),
        "methods": [
            {"name": method, "label": method_label(method), "colour": colours[method]} for method in results.methods
        ],
    }
    return Markup(
        template.render(
            missing=None,
            shown=len(cases),
            total=len(scans),
            case_noun=results.case_noun,
            windows=windows,
            has_lung_window=LUNG.name in {window.name for window in windows},
            data=Markup(_for_script(json.dumps(data, separators=(",", ":")))),
            niivue=Markup(_for_script(NIIVUE.read_text(encoding="utf-8"))),
            script=Markup((_TEMPLATES / "viewer.js").read_text(encoding="utf-8")),
        )
    )


def _stored_window(cases: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """The intensities in HU that the volumes of all cases contain."""
    return max((each["window"][0] for each in cases), default=0), min((each["window"][1] for each in cases), default=0)


def _for_script(text: str) -> str:
    """`text` changed so that it cannot end the script element around it; strings in JSON and JavaScript stay equal."""
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")
