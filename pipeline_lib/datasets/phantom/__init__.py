"""Phantom benchmark: CT-like torsos with the truth of every ROI, written in the published layouts."""
