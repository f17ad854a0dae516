"""Decisive studies: claims on pairs of arms, planned before they are measured."""
