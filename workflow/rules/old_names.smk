# Requires: the targets.
# Makes: the names that targets had in version 0.1, for this version only, each with a line that says the new one.

RENAMED = {
    "acquire": "raw_data",
    "text": "embeddings",
    "roi_aware": "roi_aware_network",
    "segmentation": "models",
    "inference": "predictions",
}

for old, new in RENAMED.items():
    if old in sys.argv:
        print(f"note: target `{old}` is now called `{new}`", file=sys.stderr)


localrules:
    acquire,
    text,
    roi_aware,
    segmentation,
    inference,


rule acquire:
    input:
        rules.raw_data.input,


rule text:
    input:
        rules.embeddings.input,


rule roi_aware:
    input:
        rules.roi_aware_network.input,


rule segmentation:
    input:
        rules.models.input,


rule inference:
    input:
        rules.predictions.input,
