"""Lacuna: one segmentation network learned from many partially labelled CT data sets.

[LC] in docstrings is the paper that it implements: Zhao, Ouyang, Zhang, Xue, Shen, "Exploiting Latent Classes for
Medical Image Segmentation from Partially Labeled Datasets", MICCAI 2024. docs/glossary.md explains the other words.
"""
