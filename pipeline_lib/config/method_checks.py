"""Whether methods agree with the rest of the config: their networks, encoders, patches and data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .methods import Method
from .networks import Network
from .rois import has_existence
from .validation import cases_that_teach, cases_with_labels, missing_labelled_cases
from .volumes import Patches

if TYPE_CHECKING:
    from .schema import Config


def check_methods(config: Config) -> None:
    """ValueError if a method names something that the config lacks, or does not fit it."""
    missing = sorted(set(config.compare) - set(config.methods))
    if missing:
        raise ValueError(f"`compare` names {', '.join(missing)}; `methods` has: {', '.join(config.methods)}")
    for key, entries in (("compare", config.compare), ("seeds", config.seeds)):
        if len(set(entries)) != len(entries):
            raise ValueError(f"`{key}` names something twice: {', '.join(map(str, entries))}")
    if config.ensemble and not config.has_test_cases:
        raise ValueError("`ensemble` averages predictions of test cases, and no data set has any: leave it out")
    if config.ensemble and len(config.seeds) == 1:
        raise ValueError("`ensemble` averages a method's seeds, and `seeds` names one: name more, or leave it out")
    if config.ensemble and (taken := [name for name in config.methods if f"{name}_ensemble" in config.methods]):
        raise ValueError(
            f"`ensemble`: the report could not tell the ensemble of {taken[0]} from the method {taken[0]}_ensemble: "
            "rename one of the two"
        )
    for name, method in config.methods.items():
        encoder = config.text.encoders.get(method.encoder)
        if encoder is None:
            raise ValueError(
                f"method {name}: there is no text encoder {method.encoder!r}; "
                f"`text.encoders` has: {', '.join(config.text.encoders)}"
            )
        network = config.networks.get(method.network)
        if network is None:
            raise ValueError(
                f"method {name}: there is no network {method.network!r}; `networks` has: {', '.join(config.networks)}"
            )
        if (network.conditioning == "one_hot") != (encoder.kind == "one_hot"):
            raise ValueError(
                f"method {name}: a network of kind {network.kind} needs a text encoder "
                + ("of kind one_hot" if network.conditioning == "one_hot" else "of another kind than one_hot")
            )
        if method.asks_one_roi and not (network.answers_one_roi and network.per_data_set is None):
            raise ValueError(
                f"method {name} asks for one ROI of each sample, which needs a network of kind conemos without "
                f"`per_data_set`; {method.network} is not one"
            )
        if method.needs_features and not (network.has_features and network.per_data_set not in ("prompt", "network")):
            raise ValueError(
                f"method {name} learns from its network's last features, and {method.network} has no features that all "
                "ROIs share: name another network"
            )
        if network.per_data_set is not None and not method.sees_data_sets:
            raise ValueError(
                f"method {name}: only labels_alone trains the parts of data sets that {method.network} has: name a "
                "network without `per_data_set`"
            )
        _check_patches(config.patches, name, network)
    # A method that is not compared may lie there until there is what it needs.
    for name in config.compare or config.methods:
        _check_samples_together(config, name, config.methods[name])
        lacking = lacking_for(config, config.methods[name])
        if lacking is not None:
            raise ValueError(f"method {name} {lacking[0]}: {lacking[1]}, or name the methods without it in `compare`")


def lacking_for(config: Config, method: Method) -> tuple[str, str] | None:
    """What `method` needs and the config lacks, and the remedy; None if it lacks nothing.

    Nobody knows what a start model has seen, so it is refused with `folds`.
    """
    if config.folds is not None and method.starts_from_model:
        return (
            "has a `start_from` that names a model that may have learned from the cases that a fold holds out",
            "leave out `folds`, or start from self-supervised weights (.pt)",
        )
    if (too_few := missing_labelled_cases(config, method)) is not None:
        return f"cannot learn: its `labelled_cases` {too_few}", "correct it"
    if method.start_from is None and config.unlabelled_rois:
        unlabelled = ", ".join(config.unlabelled_rois)
        return f"cannot learn {unlabelled}, which no data set labels", "name a model that knows it in `start_from`"
    if not method.learns_without_labels and not any(
        cases_that_teach(dataset, dataset.split_cases("train"), method)
        for dataset in config.datasets.partially_labelled
    ):
        return "learns from labels alone, and no training case has any", "add a data set with labels"
    if (without := _data_set_without_part(config, method)) is not None:
        return (
            f"trains a part of {method.network} for each data set, and {without} labels nothing to train it with",
            "leave it out with `keep_start: false`, name a network without `per_data_set`",
        )
    or_ignore = ", or set `decision: null`" if method.may_ignore_existence else ""
    if method.needs_existence and config.existence.mode == "start_model":
        if method.start_from is None:
            wrong = "needs existence scores, which `existence.mode` takes from a model"
            return wrong, f"name it in `start_from`{or_ignore}"
    elif method.needs_existence and config.datasets.fully_labelled is None:
        other = ", or set `existence.mode` to start_model" if method.start_from is not None else ""
        name_it = f"name the data set of the ROI-aware network in `datasets.fully_labelled`{other}{or_ignore}"
        return "needs existence scores", name_it
    unknown = [roi.name for roi in config.rois if not has_existence(roi)]
    if method.needs_organs and unknown:
        return f"must know which organ {', '.join(unknown)} is", "give the ROI `structures` or `organ`"
    return None


def _data_set_without_part(config: Config, method: Method) -> str | None:
    """A data set that `method` learns from and none of whose training cases labels a ROI, if data sets have parts."""
    if config.networks[method.network].per_data_set is None or not method.learns_without_labels:
        return None
    for dataset in config.datasets.partially_labelled:
        training = dataset.split_cases("train")
        if training and not cases_with_labels(dataset, training):
            return dataset.name
    return None


def _check_patches(patches: Patches, name: str, network: Network) -> None:
    sizes, multiple = patches.size_voxels, network.patch_multiple
    if any(side % multiple for side in sizes):
        raise ValueError(
            f"`patches.size_voxels` {list(sizes)}: every side must divide by {multiple} for the network "
            f"{network.kind} of method {name} ({', '.join(str(multiple * times) for times in range(1, 5))}, …)"
        )
    if network.normalises_bottleneck and max(sizes) == multiple:
        raise ValueError(
            f"`patches.size_voxels` {list(sizes)}: at least one side must be larger than {multiple} for the network "
            f"{network.kind} of method {name}"
        )


def _check_samples_together(config: Config, name: str, method: Method) -> None:
    does = "`dice: batch` sums over" if method.sums_over_batch else "it mixes" if method.mixes_samples else None
    if does is not None and config.execution.parts > 1:
        raise ValueError(
            f"method {name}: {does} samples that are computed together, so its result would depend on "
            "`execution.gradient_accumulation_steps`: set that to 1"
        )
    if method.mixes_samples and config.segmentation.batch_size < 2:
        raise ValueError(f"method {name} mixes samples of a batch: set `segmentation.batch_size` to at least 2")
