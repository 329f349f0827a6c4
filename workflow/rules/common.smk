# Requires: LACUNA, the config.
# Makes: what all rules share: names of data sets and runs, settings and commands of stages, memory, threads and GPUs.

PARTIAL = tuple(dataset.name for dataset in LACUNA.datasets.partially_labelled)
PHANTOM = tuple(
    dataset.name for dataset in LACUNA.all_datasets if dataset.source.kind == "phantom"
)
PUBLISHED = tuple(
    dataset.name for dataset in LACUNA.all_datasets if dataset.source.kind != "phantom"
)
LEARNED = tuple(
    dataset.name
    for dataset in LACUNA.datasets.partially_labelled
    if dataset.split_cases("train")
)
TESTED = tuple(
    dataset.name
    for dataset in LACUNA.datasets.partially_labelled
    if dataset.split_cases("test")
)
# The data sets whose cases are scored: those with test cases, or out of fold all that have labels.
SCORED = TESTED or tuple(
    name for name in LEARNED if not LACUNA.dataset(name).has_no_labels
)
TRAININGS = tuple(training.name for training in LACUNA.trainings)
# What predicts the test cases, if there are any: trainings, or averages of them.
RUNS = tuple(run.name for run in LACUNA.runs)
# With `folds`: what predicts the cases that it has not learned from.
OUT_OF_FOLD = tuple(
    training.name for training in LACUNA.trainings if training.fold is not None
)
# What the report's figures show: predictions of test cases, or out of fold where there are none.
SHOWN = RUNS or OUT_OF_FOLD
FULLY_LABELLED = (
    LACUNA.datasets.fully_labelled.name if LACUNA.datasets.fully_labelled else None
)
DOWNLOADED_ENCODERS = tuple(
    sorted(
        {
            LACUNA.methods[run.method].encoder
            for run in LACUNA.trainings
            if LACUNA.text.encoders[LACUNA.methods[run.method].encoder].is_downloaded
        }
    )
)


def any_of(names):
    """A wildcard pattern for these names; one that matches nothing for none."""
    return "|".join(names) or "(?!)"


wildcard_constraints:
    dataset=any_of(dataset.name for dataset in LACUNA.all_datasets),
    batch=r"\d+",
    encoder=any_of(LACUNA.text.encoders),
    run=rf"(?:{any_of(LACUNA.methods)})-(?:seed\d+(?:-fold\d+|-folds)?|ensemble)",


# Jobs run this checkout's code, whichever one is installed or lies in the working directory, with the Python that runs
# Snakemake, also where its environment was not activated. An environment that Snakemake deploys brings its own Python.
JOB_ENVIRONMENT = {"PYTHONPATH": str(BASE), "PYTHONSAFEPATH": "1"}
if not workflow.deployment_settings.deployment_method:
    JOB_ENVIRONMENT = {
        **JOB_ENVIRONMENT,
        "PYTHONPATH": os.pathsep.join(
            filter(None, (str(BASE), os.environ.get("PYTHONPATH")))
        ),
        "PATH": os.pathsep.join(
            (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))
        ),
    }

# Snakemake takes braces for its own.
shell.prefix(
    "".join(
        f"export {name}={shlex.quote(value)}; "
        for name, value in JOB_ENVIRONMENT.items()
    )
    .replace("{", "{{")
    .replace("}", "}}")
)


def settings_of(stage):
    """File with the settings of a stage, for `params`: an edit of them reruns its jobs."""
    names = settings.wildcards_of(settings.slice_of(stage))

    def of_wildcards(wildcards):
        values = {name: wildcards[name] for name in names}
        return settings.settings_file(stage, LACUNA, **values)

    return of_wildcards


def execution_of(stage):
    """How a stage runs. Snakemake does not track a parameter that takes `input`: editing it reruns nothing."""
    names = settings.wildcards_of(settings.slice_of(stage, execution=True))

    def untracked(wildcards, input):
        values = {name: wildcards[name] for name in names}
        return settings.settings_file(stage, LACUNA, execution=True, **values)

    return untracked


def shell_command(stage, launcher="python -m", params=(), without=()):
    """A stage's command line for `shell`: a flag for its settings, each of its inputs and outputs, and its log.

    Inputs named in `params` are parameters of the rule instead of its files; those in `without` are left out. `exec`
    lets signals reach the stage: bash would die of them and leave it behind.
    """
    words = [f"exec {launcher} pipeline_lib.stages.{stage}.run"]
    words += ["--settings {params.settings:q}"]
    words += ["--execution {params.execution:q}"] if has_execution(stage) else []
    for kind, paths in (
        ("input", STAGES[stage].Inputs),
        ("output", STAGES[stage].Outputs),
    ):
        for name in (
            field.name for field in fields(paths) if field.name not in without
        ):
            owner = "params" if name in params else kind
            words.append(f"{flag_of(name)} {{{owner}.{name}:q}}")
    return " ".join((*words, "--log {log:q}"))


NOTICED = set()


def manifest_of_batch(wildcards):
    """The manifest of the batch's raw data set. Where volumes of the batch are gone or old, its job is forced.

    Nothing is deleted to that end: dry runs plan like this too, and runs that another one locks out.
    """
    manifest = f"resources/raw/{wildcards.dataset}/manifest.json"
    batch = f"results/volumes/{wildcards.dataset}/batch_{wildcards.batch}.txt"
    cases = batches_of(LACUNA.dataset(wildcards.dataset)).get(wildcards.batch, ())
    reason = why_incomplete(Path(batch), cases, Path(manifest))
    if reason and batch not in workflow.dag.forcefiles:
        workflow.dag.forcefiles.add(batch)
        # Once for a data set; a list that is not there is not news, nor is any in a process that runs a single job.
        if (
            Path(batch).is_file()
            and workflow.exec_mode == ExecMode.DEFAULT
            and wildcards.dataset not in NOTICED
        ):
            NOTICED.add(wildcards.dataset)
            print(
                f"notice: {wildcards.dataset} has volumes to remake: {reason}",
                file=sys.stderr,
            )
    return manifest


def code_of(*patterns):
    """Code files of a cheap stage, as inputs: editing them reruns it. Not for stages from which trainings follow."""
    return sorted(
        str(path)
        for pattern in patterns
        for path in (BASE / "pipeline_lib").glob(pattern)
    )


def all_cores():
    """Cores that Snakemake was given; 1 where none are, as for --report and --unlock (`workflow.cores` would refuse)."""
    return workflow.resource_settings.cores or 1


def gpus_of(execution, most=1):
    """GPUs of a job that runs like this, at most `most`: none where its device is the CPU."""
    return 0 if execution.device == "cpu" else min(visible_gpus(), most)


def training_threads():
    """All cores where trainings share the GPUs, so that they queue; half of them on a CPU, so that two run."""
    cores = all_cores()
    return cores if visible_gpus() else max(1, cores // 2)


def encoder_of(run):
    return LACUNA.methods[LACUNA.run(run).method].encoder


def learned_by(run):
    """The data sets that a training reads: those that teach its method something, or that validation predicts."""
    training = LACUNA.run(run)
    return list(cases_of_method(LACUNA, LACUNA.methods[training.method], training.fold))


def volumes_of_training(wildcards):
    return expand(
        "results/volumes/{dataset}/cases.csv", dataset=learned_by(wildcards.run)
    )


def existence_of_training(wildcards):
    return expand(
        "results/existence/{dataset}.parquet", dataset=learned_by(wildcards.run)
    )


def start_of(run):
    """The file that a training starts from, if it names one that exists."""
    return files_that_exist(LACUNA.methods[LACUNA.run(run).method].start_from)


def models_of(run):
    """The models that a run predicts with, whose average it is if there are several."""
    return [
        f"results/models/{member.name}/model.safetensors"
        for member in members(LACUNA, LACUNA.run(run))
    ]


def predictions_of(runs):
    """The folders of predictions of these runs, a folder for each data set of which a run predicts cases."""
    return [
        f"results/predictions/{run}/{dataset}"
        for run in runs
        for dataset in predicted_by(run)
    ]


def predicted_by(run):
    """The data sets of which a run predicts cases."""
    return [
        dataset.name
        for dataset in LACUNA.datasets.partially_labelled
        if LACUNA.predicted_cases(LACUNA.run(run), dataset)
    ]


def files_that_exist(*files):
    """Those of `files` (None: there is none) that are there; nothing else makes them part of a run."""
    return [file for file in files if file is not None and Path(file).is_file()]


def vectors_of(encoder):
    """The file of an encoder of kind `file`, where it exists; nothing of any other."""
    return files_that_exist(encoder.model) if encoder.kind == "file" else []


def only_with_existence(*files):
    """These files where a fully labelled data set trains the ROI-aware network; nothing where there is none."""
    return list(files) if FULLY_LABELLED else []


EXISTENCE_CHECK = (
    only_with_existence(
        "results/existence_check/agreement.csv", "results/existence_check/decisions.csv"
    )
    if any(method.needs_existence for method in LACUNA.methods.values())
    else []
)


PSEUDO_LABELS = [
    f"results/pseudo_labels/{run}.csv" for run in checked_trainings(LACUNA)
]


def all_pseudo_labels(wildcards):
    """The tables of the target `pseudo_labels`; ends in a line if there are none, which says why."""
    if reason := why_none_is_checked(LACUNA):
        sys.exit(f"error: {reason}")
    return PSEUDO_LABELS


def only_if_made(files):
    """These files where all of them are there; nothing else makes them part of a run."""
    return files if all(Path(file).is_file() for file in files) else []


def resampling_memory_mb():
    """Room for the largest KiTS19 case at the paper's spacing, in proportion to the voxels of a coarser one.

    Measured (docs/volumes.md): 1.9 GB for int16; an image of float64 would take some 2 GB more.
    """
    x, y, z = LACUNA.volumes.spacing_mm
    return 1000 + int(4000 * (0.8 * 0.8 * 1.5) / (x * y * z))


def training_memory_mb():
    """Host memory of a training process; measured (docs/performance.md), not more than a GPU node has."""
    x, y, z = LACUNA.patches.size_voxels
    return 4000 + 12000 * LACUNA.segmentation.batch_size * x * y * z // (
        12 * 160 * 160 * 96
    )


def truth_of(datasets):
    """Where the scored truth of these data sets lies: every ROI of a phantom, or the published labels."""
    path = (
        "resources/truth/{dataset}"
        if LACUNA.scores.truth == "full"
        else "resources/raw/{dataset}/manifest.json"
    )
    return expand(path, dataset=datasets)
