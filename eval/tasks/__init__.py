"""lm-eval tasks of this toolkit: give the folder to lm-eval as `--include_path`.

A file is called like the task in it. The functions beside the YAML files are what they name with
`!function`; lm-eval loads them by their path.
"""
