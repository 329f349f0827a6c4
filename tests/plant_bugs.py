"""Do the tests bite? Plants bugs one at a time in a copy of the tree and runs the nearest tests.

    python tests/plant_bugs.py             # all bugs, about ten seconds each
    python tests/plant_bugs.py scaler clip # those whose name contains one of these words

Each bug is one replacement in one file. "caught" is what you want to read; "SURVIVED" means that no test of the files
named beside the bug fails with it, and "STALE" that the code no longer holds the text that the bug replaces. The exit
code is the number of bugs that were not caught.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
_COPIED = ("lacuna", "pipeline_lib", "tests", "config", "pyproject.toml")
_CAUGHT = 1
_HANGING_AFTER_S = 900
"""Far longer than the slowest of these test files takes, beside other work too: a bug may make them wait for ever."""


@dataclass(frozen=True)
class Bug:
    """`wrong` in place of `right` in `file`; `tests` are the nearest ones."""

    name: str
    file: str
    right: str
    wrong: str
    tests: str


_STEP, _VIEWS = "tests/training/test_step.py", "tests/data/test_views.py"
_SIDES = "tests/data/test_mirroring.py"
_UNKNOWN = "tests/methods/test_unknown_voxels.py"
_LACUNA = "tests/methods/test_lacuna.py"
_LTUDA = "tests/methods/test_ltuda.py"
_EVERY_METHOD = "tests/methods/test_unknown_voxels_of_all_methods.py"
_PSEUDO_LABELS, _SNAPSHOTS = "tests/methods/test_pseudo_labels.py", "tests/training/test_snapshots.py"
_SERIES = "tests/datasets/test_dicom_series.py"
_LABELS = "tests/volumes/test_resampling.py"
# Not planted: surface distances without the margin around the masks. MONAI pads the masks itself, and neither score
# differs, even where a mask fills the box.
BUGS = (
    Bug(
        "the patient's last slice is taken for air",
        "inference/sliding_window.py",
        "np.flatnonzero(axis)[[0, -1]] + (0, 1)",
        "np.flatnonzero(axis)[[0, -1]] + (0, 0)",
        "tests/inference/test_sliding_window.py",
    ),
    Bug(
        "windows cover the air around the patient",
        "inference/sliding_window.py",
        "(depth, *volume_shape[1:])) > window.window_hu[0]",
        "(depth, *volume_shape[1:])) >= window.window_hu[0]",
        "tests/inference/test_sliding_window.py",
    ),
    Bug(
        "voxels that labels settle count as pseudo labels",
        "methods/pseudo_labels.py",
        "left_open = ~told_voxels(batch.labelled, batch.known)",
        "left_open = ~told_voxels(batch.labelled & False, None)",
        _PSEUDO_LABELS,
    ),
    Bug(
        "settled ROIs have a row among the decisions",
        "methods/pseudo_labels.py",
        "{UNLABELLED: ~labelled_throughout(batch.labelled, batch.known)}",
        "{UNLABELLED: labelled_throughout(batch.labelled, batch.known) | True}",
        _PSEUDO_LABELS,
    ),
    Bug(
        "what is right counts as lying in a rival",
        "methods/pseudo_labels.py",
        "wrong = predicted & ~truth",
        "wrong = predicted",
        _PSEUDO_LABELS,
    ),
    Bug(
        "ambiguous ROIs count as taught without Eq. 3",
        "methods/latent_class/task.py",
        "masks &= ~decisions.ambiguous",
        "masks &= ~decisions.negative",
        _PSEUDO_LABELS,
    ),
    Bug(
        "a voxel counts as taught for two organs",
        "methods/lacuna/task.py",
        "self.teacher.logits(batch, self.rivals) >= 0",
        "self.teacher.logits(batch) >= 0",
        _PSEUDO_LABELS,
    ),
    Bug(
        "a ROI that the teacher does not see is taught as absent, against its score",
        "methods/lacuna/task.py",
        "(inside | outside) & seen",
        "inside | outside",
        _LACUNA,
    ),
    Bug(
        "Eq. 2 of lacuna reaches voxels that labels settle",
        "methods/lacuna/task.py",
        "decisions.latent, SHARPENING_TEMPERATURE, where)",
        "decisions.latent, SHARPENING_TEMPERATURE)",
        _LACUNA,
    ),
    Bug(
        "a falling curve reaches a Dice where it rises again",
        "reporting/label_curve.py",
        "if dice < points[0][1]:",
        "if dice < 0:",
        "tests/reporting/test_figures.py",
    ),
    Bug(
        "a label curve counts data sets in which its methods do not differ",
        "reporting/label_curve.py",
        "for of in cases.values()}) > 1",
        "for of in cases.values()}) > 0",
        "tests/reporting/test_figures.py",
    ),
    Bug(
        "a grown model passes for labels alone",
        "reporting/figures.py",
        " and not methods[each.name].start_from",
        "",
        "tests/reporting/test_figures.py",
    ),
    Bug(
        "a snapshot one step late",
        "training/snapshots.py",
        "if due == step:",
        "if due == step - 1:",
        _SNAPSHOTS,
    ),
    Bug(
        "a training resumes without a snapshot that was due",
        "training/snapshots.py",
        "if due <= step and not path.is_file()",
        "if due == step and not path.is_file()",
        _SNAPSHOTS,
    ),
    Bug(
        "a full disk at a snapshot stops the training",
        "training/snapshots.py",
        "except OSError as error:",
        "except KeyError as error:",
        _SNAPSHOTS,
    ),
    Bug(
        "a MONAI bundle lays its windows by default",
        "prediction/monai_bundle/configs.py",
        '"overlap": prediction.overlap,',
        '"overlap": 0.5,',
        "tests/prediction/test_monai_bundle.py",
    ),
    Bug(
        "DICOM slices in the order of their files",
        "datasets/dicom/series.py",
        'np.argsort(positions @ normal, kind="stable")',
        "np.arange(len(positions))",
        _SERIES,
    ),
    Bug(
        "DICOM slices all with the first one's intercept",
        "datasets/dicom/series.py",
        "[_hounsfield(file, *scale) for file, scale in zip(files, scales, strict=True)]",
        "[_hounsfield(file, *scales[0]) for file in files]",
        _SERIES,
    ),
    Bug(
        "holes of DICOM contours filled",
        "datasets/dicom/contours.py",
        "crossings.cumsum(axis=1) % 2 == 1",
        "crossings.cumsum(axis=1) > 0",
        "tests/datasets/test_dicom_contours.py",
    ),
    Bug(
        "DICOM frames in the order of slices",
        "datasets/dicom/segments.py",
        "place = int(np.rint(index[0, 2]))",
        "place = self.grid.shape[0] - 1 - int(np.rint(index[0, 2]))",
        "tests/datasets/test_dicom_case.py",
    ),
    Bug(
        "DICOM contours between slices drawn on the nearest",
        "datasets/dicom/contours.py",
        "np.abs(index[:, 2] - number).max() > SAME_WITHIN_VOXELS",
        "np.abs(index[:, 2] - number).max() > 1",
        "tests/datasets/test_dicom_contours.py",
    ),
    Bug(
        "unknown voxels taught as background",
        "methods/supervised_loss.py",
        "None if known is None else selected_maps(known, labelled)",
        "None",
        _UNKNOWN,
    ),
    Bug(
        "few unknown voxels weigh as much as a ROI",
        "methods/roi_maps.py",
        "    if where is None:\n        return mean_over_rois(values.mean(1), selected)\n",
        "    return mean_over_rois(values.mean(1), selected)\n",
        _UNKNOWN,
    ),
    Bug(
        "a labelled part does not tell that a ROI is there",
        "methods/decided.py",
        ", batch.labelled & (batch.labelled_voxels > 0))",
        ")",
        _UNKNOWN,
    ),
    Bug(
        "labels of unlabelled ROIs tell that they are there",
        "methods/decided.py",
        "batch.labelled & (batch.labelled_voxels > 0)",
        "batch.labelled_voxels > 0",
        _EVERY_METHOD,
    ),
    Bug(
        "unknown voxels exclude leaves",
        "methods/leaves.py",
        "told = told_voxels(labelled, known)",
        "told = told_voxels(labelled, None)",
        _EVERY_METHOD,
    ),
    Bug(
        "leaf Dice pushes unknown ROIs down",
        "methods/leaf_dice/task.py",
        "leaf_dice_loss(z, allowed, complete)",
        "leaf_dice_loss(z, allowed)",
        _EVERY_METHOD,
    ),
    Bug(
        "no pseudo labels where a labelled ROI is unknown",
        "methods/ltuda_cda/task.py",
        "told_voxels(labelled, known), labels, pseudo)",
        "told_voxels(labelled, None), labels, pseudo)",
        _EVERY_METHOD,
    ),
    Bug(
        "prototypes of unlabelled voxels follow labelled ones",
        "methods/ltuda/task.py",
        "counted & ~in_label)",
        "counted)",
        _LTUDA,
    ),
    Bug(
        "small terms over non-members",
        "methods/ltuda/task.py",
        "_means(prototype_loss(near[member], prototypes), member)",
        "_means(prototype_loss(near[counted], assigned(near[counted], classes[counted])), counted)",
        _LTUDA,
    ),
    Bug(
        "prototypes divided among non-members too",
        "methods/ltuda/task.py",
        "assigned(near[member], classes[member])",
        "assigned(near[counted], classes[counted])[member[counted]]",
        _LTUDA,
    ),
    Bug(
        "labels of mixed copies beside prototypes",
        "methods/ltuda/task.py",
        "labels_of_copies=False",
        "labels_of_copies=True",
        _LTUDA,
    ),
    Bug(
        "prototypes see the sample where its partner is mixed in",
        "methods/ltuda/voxels.py",
        "torch.where(inside, partners(samples)[:, None], samples[:, None])",
        "torch.where(inside, samples[:, None], samples[:, None])",
        _LTUDA,
    ),
    Bug(
        "a resumed training has fresh prototypes",
        "methods/ltuda/task.py",
        'self.banks = self._next_banks = state["banks"].to(self.banks.device)',
        "pass",
        _LTUDA,
    ),
    Bug(
        "prototypes move though the step is skipped",
        "methods/ltuda/task.py",
        "self._next_banks = torch.stack(banks)",
        "self.banks = self._next_banks = torch.stack(banks)",
        _LTUDA,
    ),
    Bug(
        "outputs for ROIs that no case labels",
        "stages/train/run.py",
        "if labelled}",
        "}",
        "tests/stages/test_train.py::test_a_data_set_has_outputs_for_what_its_training_cases_label_together",
    ),
    Bug(
        "unknown voxels of sides kept",
        "data/reading.py",
        "unknown = mirrored_combinations(unknown, self.partners)",
        "pass",
        _SIDES,
    ),
    Bug(
        "rare ROIs drawn like common ones",
        "data/crops.py",
        "np.where(labelled, factors, 1.0).max(axis=1)",
        "np.where(labelled, factors, 1.0).min(axis=1)",
        "tests/data/test_crops.py",
    ),
    Bug(
        "the rarest ROI's turn comes last",
        "data/pool.py",
        "present.sort(key=lambda target: labelled_cases[target])",
        "present.sort(key=lambda target: -labelled_cases[target])",
        "tests/data/test_pool.py",
    ),
    Bug(
        "a ROI of two parts is its first part",
        "datasets/case_labels.py",
        "for path in self.files[target])",
        "for path in self.files[target][:1])",
        "tests/datasets/test_mask_files.py",
    ),
    Bug(
        "an absent mask is labelled",
        "datasets/mask_files.py",
        'matched.found if labelled == "present"',
        'names if labelled == "present"',
        "tests/datasets/test_mask_files.py",
    ),
    Bug(
        "unknown voxels scored",
        "scoring/case_scores.py",
        "prediction & known, truth & known",
        "prediction, truth",
        "tests/stages/test_score.py",
    ),
    Bug(
        "an organ is blamed for its tumour",
        "scoring/confusion.py",
        "family[roi] == family[true_roi]",
        "family[roi] == true_roi",
        "tests/scoring/test_confusion.py",
    ),
    Bug(
        "the border is at the centres of voxels",
        "scoring/false_voxels.py",
        "(step - 0.5) * spacing",
        "step * spacing",
        "tests/scoring/test_confusion.py",
    ),
    Bug(
        "what a table withholds is in the volume",
        "config/labelling.py",
        "isinstance(self.labelled, str) or roi in self.labelled",
        "True",
        "tests/stages/test_resample.py",
    ),
    Bug(
        "scaler state not saved",
        "training/step.py",
        '"scaler": self.scaler.state_dict()',
        '"scaler": torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=2).state_dict()',
        _STEP,
    ),
    Bug(
        "scaler state not restored",
        "training/step.py",
        'self.scaler.load_state_dict(state["scaler"])',
        "pass",
        _STEP,
    ),
    Bug("skipped steps not restored", "training/step.py", 'self.skipped = state["skipped"]', "pass", _STEP),
    Bug("skipped steps not saved", "training/step.py", '"skipped": self.skipped', '"skipped": 0', _STEP),
    Bug(
        "teacher updated before the optimiser",
        "training/step.py",
        "        self.scaler.step(self.optimiser)\n        self.scaler.update()\n        self.task.after_update()\n",
        "        self.task.after_update()\n        self.scaler.step(self.optimiser)\n        self.scaler.update()\n",
        _STEP,
    ),
    Bug(
        "teacher updated on skipped steps",
        "training/step.py",
        "            self._skip(step, regions, losses)\n",
        "            self._skip(step, regions, losses)\n            self.task.after_update()\n",
        _STEP,
    ),
    Bug(
        "student updated on non-finite steps",
        "training/step.py",
        "applied=broken == 0",
        "applied=True",
        _STEP,
    ),
    Bug(
        "clipping before unscaling",
        "training/step.py",
        "        self.scaler.unscale_(self.optimiser)\n"
        "        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]\n"
        "        norm = torch.nn.utils.get_total_norm(gradients)\n",
        "        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]\n"
        "        norm = torch.nn.utils.get_total_norm(gradients)\n"
        "        self.scaler.unscale_(self.optimiser)\n",
        _STEP,
    ),
    Bug(
        "no clipping",
        "training/step.py",
        "if self.optimisation.max_grad_norm is not None:",
        "if False:",
        _STEP,
    ),
    Bug(
        "weight decay dropped",
        "training/step.py",
        "weight_decay=optimisation.weight_decay",
        "weight_decay=0.0",
        _STEP,
    ),
    Bug(
        "AdamW's default decay",
        "training/step.py",
        "weight_decay=optimisation.weight_decay, ",
        "",
        _STEP,
    ),
    Bug(
        "progress passed as a step",
        "training/step.py",
        "networks, step / self.steps, exchange",
        "networks, step, exchange",
        _STEP,
    ),
    Bug(
        "progress always 1",
        "training/step.py",
        "networks, step / self.steps, exchange",
        "networks, 1.0, exchange",
        _STEP,
    ),
    Bug(
        "gradients kept of passes that ran out of memory",
        "training/step.py",
        "        self.optimiser.zero_grad(set_to_none=True)\n        gc.collect()\n",
        "        gc.collect()\n",
        "tests/training/test_loop.py",
    ),
    Bug(
        "sizes by a rank's own memory",
        "measurement/auto_sizes.py",
        "min(distributed.all_gather(card.gib))",
        "card.gib",
        "tests/measurement/test_auto_sizes.py",
    ),
    Bug(
        "validations take what time they like",
        "training/validation.py",
        "return share > self.max_time_share",
        "return False",
        "tests/training/test_validation.py",
    ),
    Bug(
        "optimiser state not restored",
        "training/step.py",
        'self.optimiser.load_state_dict(state["optimiser"])',
        "pass",
        _STEP,
    ),
    Bug(
        "gradient summed over the batch",
        "training/step.py",
        " / self.optimisation.batch_size\n            self",
        "\n            self",
        _STEP,
    ),
    Bug("EMA weights swapped", "methods/ema_teacher.py", "1 - alpha)", "alpha)", _STEP),
    Bug(
        "the same cases without labels in every epoch",
        "data/crops.py",
        "(epoch * unlabelled_per_epoch + np.arange(unlabelled_per_epoch))",
        "np.arange(unlabelled_per_epoch)",
        "tests/data/test_crops.py",
    ),
    Bug(
        "share of the labelled cases, not of the epoch",
        "data/crops.py",
        "labelled * share / (1 - share)",
        "labelled * share",
        "tests/data/test_crops.py",
    ),
    Bug(
        "labels alone keep cases without any",
        "config/validation.py",
        "return cases if method.learns_without_labels else cases_with_labels(dataset, cases)",
        "return cases",
        "tests/config/test_no_labels.py",
    ),
    Bug(
        "tested patients train without labels",
        "config/folds.py",
        "if patients[case] not in tested",
        "if True",
        "tests/config/test_no_labels.py",
    ),
    Bug(
        "a share without effect is another training",
        "stages/train/run.py",
        'update={"unlabelled_share": UNLABELLED_SHARE}',
        "update={}",
        "tests/stages/test_train.py -k share_is_part",
    ),
    Bug("largest pool", "data/crops.py", "min(len(case.pool)", "max(len(case.pool)", "tests/data/test_crops.py"),
    Bug("strong noise keyed like weak", "data/batches.py", '"strong noise"', '"weak noise"', _VIEWS),
    Bug(
        "one noise for all samples",
        "data/batches.py",
        '"weak noise", self.seed, region.sample',
        '"weak noise", self.seed, 0',
        _VIEWS,
    ),
    Bug(
        "strong view flipped against the weak view",
        "data/batches.py",
        "strong_image(image, draw, noise)",
        "strong_image(image.flip(0), draw, noise)",
        _VIEWS,
    ),
    Bug(
        "labels not flipped along the first axis",
        "data/weak_view.py",
        "return codes.flip(draw.axes) if draw.axes else codes",
        "return codes.flip([a for a in draw.axes if a]) if any(draw.axes) else codes",
        _VIEWS,
    ),
    Bug(
        "flips in the order x y z", "data/weak_view.py", "view.flip_probability[::-1]", "view.flip_probability", _VIEWS
    ),
    Bug("flags of sides kept", "data/reading.py", "mirrored_flags(labelled, self.partners)", "labelled", _SIDES),
    Bug("scores of sides kept", "data/reading.py", "mirrored_scores(scores, self.partners)", "scores", _SIDES),
    Bug(
        "labels of sides kept",
        "data/reading.py",
        "mirrored_combinations(combinations, self.partners)",
        "combinations",
        _SIDES,
    ),
    Bug("sides exchanged by flips along z", "data/weak_view.py", "_X = 2", "_X = 0", _SIDES),
    Bug("sides exchanged without a flip", "data/reading.py", "if draw.exchanges_sides and", "if", _SIDES),
    Bug(
        "an unknown side counts as absent",
        "existence/presence.py",
        "terms.where(labelled, 0).sum(1) / labelled.sum(1).clamp(min=1)",
        "terms.mean(1)",
        _SIDES,
    ),
    Bug(
        "mirrored windows mix up sides",
        "inference/sliding_window.py",
        "output[:, window.partners] if window.partners and _X in axes else output",
        "output",
        "tests/inference/test_sliding_window.py",
    ),
    Bug(
        "windows mirrored along z exchange sides",
        "inference/sliding_window.py",
        "_X = 4",
        "_X = 2",
        "tests/inference/test_sliding_window.py",
    ),
    Bug("label bits shifted by one", "label_bits.py", "roi % _BITS", "(roi + 1) % _BITS", _VIEWS),
    Bug(
        "labels of another ROI's plane",
        "label_bits.py",
        "return roi // _BITS",
        "return roi // 16",
        _VIEWS,
    ),
    Bug(
        "gamma keeps no statistics",
        "data/strong_view.py",
        "* std + mean",
        "* curved.std(correction=0) + curved.mean()",
        _VIEWS,
    ),
    Bug("gamma drawn evenly", "data/strong_view.py", "if low < 1 < high:", "if False:", _VIEWS),
    Bug(
        "zoom drawn as a magnification",
        "data/weak_view.py",
        "1 / random.uniform(1 / highest, 1 / lowest)",
        "random.uniform(lowest, highest)",
        _VIEWS,
    ),
    Bug("blur twice as wide", "data/strong_view.py", "(offsets / sigma)", "(offsets / (2 * sigma))", _VIEWS),
    Bug(
        "stop ignored while waiting",
        "data/reading.py",
        "if stop_asked():",
        "if stop_asked() and False:",
        "tests/data/test_reading.py -k stop",
    ),
    Bug(
        "crops lost where shared memory is full",
        "data/reading.py",
        "except (RuntimeError, OSError):\n            return _Through",
        "except ZeroDivisionError:\n            return _Through",
        "tests/data/test_reading.py -k pipes",
    ),
    Bug(
        "history padded with zero bytes",
        "training/history.py",
        "if os.fstat(file.fileno()).st_size < self._position:",
        "if False:",
        "tests/training/test_checkpoints.py",
    ),
    Bug(
        "lock not exclusive",
        "training/folder_lock.py",
        "fcntl.LOCK_EX |",
        "fcntl.LOCK_SH |",
        "tests/training/test_folder_lock.py",
    ),
    Bug(
        "damaged models restored",
        "training/model_store.py",
        "return kept.is_file() and file_digest(kept) ==",
        "return kept.is_file() or file_digest(kept) ==",
        "tests/training/test_model_store.py",
    ),
    Bug(
        "an intact kept model replaced",
        "training/model_store.py",
        "if path.name in digests:",
        "if False:",
        "tests/training/test_model_store.py",
    ),
    Bug(
        "checkpoints deleted of a training that is not kept",
        "stages/train/run.py",
        "if is_kept:",
        "if True:",
        "tests/stages/test_train.py -k cannot_be_kept",
    ),
    Bug(
        "new checkpoints deleted instead of damaged ones",
        "training/checkpoints.py",
        "if path.name < newest.name]",
        "if path != newest]",
        "tests/training/test_checkpoints.py",
    ),
    Bug(
        "readers outlive a killed training",
        "data/reading.py",
        "    die_with_parent()\n",
        "",
        "tests/data/test_reading.py -k killed_whatever",
    ),
    Bug(
        "defaults in the identity",
        "training/identity.py",
        "exclude_defaults=True",
        "exclude_defaults=False",
        "tests/training/test_model_store.py",
    ),
    Bug(
        "rounding of existence scores in the identity",
        "training/identity.py",
        "case.scored_by or ",
        "",
        "tests/training/test_model_store.py",
    ),
    Bug(
        "scores of any network alike",
        "stages/score_existence/run.py",
        "fingerprint(str(VERSION), model, scored)",
        "fingerprint(str(VERSION), scored)",
        "tests/stages/test_score_existence.py",
    ),
    Bug(
        "data sets that only test are learned from",
        "config/validation.py",
        "for name, cases in found.items() if cases or name in held_out",
        "for name, cases in found.items()",
        "tests/stages/test_settings.py",
    ),
    Bug("half a file is whole", "files.py", "if _is_full(path.parent):\n", "if False:\n", "tests/test_files.py"),
    Bug("file modes of the writer", "files.py", "        partial.chmod(mode)\n", "", "tests/test_files.py"),
    Bug(
        "silent ROIs named again and again",
        "training/silent_rois.py",
        "name in self.silent or ",
        "",
        "tests/training/test_silent_rois.py",
    ),
    Bug(
        "Gaussian twice as wide",
        "inference/sliding_window.py",
        "GAUSSIAN_WIDTH = 0.125",
        "GAUSSIAN_WIDTH = 0.25",
        "tests/inference/test_sliding_window.py",
    ),
    Bug("labels from 0.3 on", "volumes/resampling.py", "_HALF = 0.5 - 1e-4", "_HALF = 0.3", _LABELS),
    Bug("labels from 0.6 on", "volumes/resampling.py", "_HALF = 0.5 - 1e-4", "_HALF = 0.6", _LABELS),
    Bug(
        "labels to the volume linearly",
        "volumes/resampling.py",
        "volume_grid, cubic, antialias=False",
        "volume_grid, linear, antialias=False",
        _LABELS,
    ),
    Bug(
        "labels back by the cubic kernel",
        "volumes/resampling.py",
        "original.canonical(), linear, antialias=False",
        "original.canonical(), cubic, antialias=False",
        _LABELS,
    ),
    Bug(
        "bytes thresholded as floats",
        "volumes/resampling.py",
        "half = 255 * _HALF if probability.dtype == np.uint8 else _HALF",
        "half = _HALF",
        _LABELS,
    ),
    Bug("half of a byte is 128", "volumes/resampling.py", "half = 255 * _HALF if", "half = 128 if", _LABELS),
    Bug(
        "last slice of the last labelled chunk not read",
        "volumes/store.py",
        "(touched[0].start + int(labelled[-1]) + 1) * depth)",
        "(touched[0].start + int(labelled[-1]) + 1) * depth - 1)",
        "tests/volumes/test_store.py",
    ),
    Bug(
        "last labelled chunk not read",
        "volumes/store.py",
        "int(labelled[-1]) + 1)",
        "int(labelled[-1]))",
        "tests/volumes/test_store.py",
    ),
    Bug(
        "label codes one too few",
        "volumes/label_codes.py",
        "np.iinfo(dtype).max + 1",
        "np.iinfo(dtype).max + 2",
        "tests/volumes/test_label_codes.py",
    ),
    Bug(
        "OpenKBP upside down",
        "datasets/openkbp.py",
        "transpose(2, 0, 1)[::-1]",
        "transpose(2, 0, 1)",
        "tests/datasets/test_openkbp.py",
    ),
    Bug(
        "OpenKBP's rows and columns exchanged",
        "datasets/openkbp.py",
        "transpose(2, 0, 1)[::-1]",
        "transpose(2, 1, 0)[::-1]",
        "tests/datasets/test_openkbp.py",
    ),
    Bug(
        "an archive deleted while others need it",
        "datasets/conversion.py",
        "if not keep_archives and all(",
        "if not keep_archives or all(",
        "tests/stages/test_acquire_openkbp.py",
    ),
    Bug(
        "two data sets download one archive at once",
        "datasets/shared_archive.py",
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        "tests/stages/test_acquire_openkbp.py -k same_time",
    ),
    Bug(
        "cases split as listed",
        "config/datasets.py",
        "ordered = sorted(self.all_cases)",
        "ordered = list(self.all_cases)",
        "tests/config/test_config.py -k cases",
    ),
    Bug(
        "mean pooled over cases and trainings",
        "reporting/intervals.py",
        "found.trainings, found.mean, float(low)",
        "found.trainings, float(np.nanmean(scores)), float(low)",
        "tests/reporting/test_intervals.py",
    ),
    Bug(
        "mean of the cases' means over trainings",
        "reporting/intervals.py",
        "found.trainings, found.mean, float(low)",
        "found.trainings, float(np.nanmean(np.nanmean(scores, axis=1))), float(low)",
        "tests/reporting/test_intervals.py",
    ),
    Bug(
        "sides of the patient exchanged",
        "prediction/statistics.py",
        '("right", "left"))',
        '("left", "right"))',
        "tests/prediction/test_statistics.py",
    ),
    Bug(
        "organ written over its lesion",
        "prediction/label_map.py",
        "        if lesion:\n            claim += _LESION",
        "        if not lesion:\n            claim += _LESION",
        "tests/prediction/test_label_map.py",
    ),
    Bug(
        "byte of the background in the mask",
        "volumes/resampling.py",
        "np.where(inside, np.maximum(block, FOREGROUND), block)",
        "block",
        f"{_LABELS} -k byte",
    ),
    Bug(
        "mean of an ensemble not taken",
        "prediction/ensemble.py",
        "return total / len(self.networks)",
        "return total",
        "tests/prediction/test_segmentation.py -k averaged",
    ),
    Bug(
        "case learned from that its fold holds out",
        "config/folds.py",
        "if of_case.get(case) != fold",
        "if True",
        "tests/config/test_folds.py -k once",
    ),
    Bug(
        "name of a ROI that leads out of the folder",
        "networks/model_description.py",
        "tuple[Name, ...], Field(min_length=1",
        "tuple[str, ...], Field(min_length=1",
        "tests/networks/test_model_file.py -k meant",
    ),
    Bug(
        "folder of somebody else replaced",
        "prediction/batch.py",
        "if foreign:",
        "if False:",
        "tests/commands/test_predict.py -k never",
    ),
    Bug(
        "prompt of another data set in training",
        "networks/universal_prompt.py",
        "device=prompts.device), datasets]",
        "device=prompts.device), datasets * 0]",
        "tests/networks/test_uniseg_unet.py",
    ),
    Bug(
        "prompt of the first data set for all in prediction",
        "networks/universal_prompt.py",
        "decoder(prompts[:, [place]])",
        "decoder(prompts[:, [0]])",
        "tests/networks/test_uniseg_unet.py",
    ),
    Bug(
        "skip before the upsampled maps",
        "networks/uniseg_unet/network.py",
        "[self.upsampling(values), skip]",
        "[skip, self.upsampling(values)]",
        "tests/networks/test_uniseg_unet.py",
    ),
)


def planted(bug: Bug, tree: Path) -> str:
    """The verdict on `bug`; `tree` is a copy of the project and is as it was afterwards."""
    path = tree / "pipeline_lib" / bug.file
    code = path.read_text(encoding="utf-8")
    if bug.right not in code:
        return "STALE"
    path.write_text(code.replace(bug.right, bug.wrong, 1), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *bug.tests.split()]
    environment = {**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    running = subprocess.Popen(command, cwd=tree, env=environment, **quiet)
    try:
        code_of_exit = running.wait(timeout=_HANGING_AFTER_S)
    except subprocess.TimeoutExpired:
        # With the workers that it started: they ignore SIGTERM.
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        return "caught (the tests hang)"
    finally:
        path.write_text(code, encoding="utf-8")
    return "caught" if code_of_exit == _CAUGHT else "SURVIVED" if code_of_exit == 0 else "STALE"


def main() -> int:
    words = sys.argv[1:]
    chosen = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder)
        for bug in chosen:
            verdict = planted(bug, Path(folder))
            missed += not verdict.startswith("caught")
            print(f"{verdict:10} {bug.name}  ({bug.file}; {bug.tests})", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} caught")
    return missed


if __name__ == "__main__":
    sys.exit(main())
