"""The parts that configs/inference.json of a MONAI bundle names; `lacuna export --monai-bundle` writes such bundles."""

from pipeline_lib.prediction.monai_bundle.parts import (
    Evaluator,
    LoadCT,
    ToMasks,
    ToVolume,
    WindowInferer,
    WriteMasks,
    cases,
    load_model,
)

__all__ = ["Evaluator", "LoadCT", "ToMasks", "ToVolume", "WindowInferer", "WriteMasks", "cases", "load_model"]
