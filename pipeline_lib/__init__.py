"""Lacuna: one segmentation network learned from many partially labelled CT data sets."""
