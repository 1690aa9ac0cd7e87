"""Looks for what would stop a run, before it starts.

findings.py     what a check says, and running them so that none hides the others
environment.py  packages, GPUs, disk
models.py       tokens of the hub, chat templates
services.py     datasets, servers and judges, sandbox, rewards
training.py     batches, accelerate configs, attention kernels
examination.py  all checks in order
"""
