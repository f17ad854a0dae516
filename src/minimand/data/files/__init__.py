"""Samples in somebody's files: folders of images, tables, arrays, and the part of the samples that each is."""
