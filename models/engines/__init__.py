"""Inference engines: several ways to run one network, measured and then selected."""
