"""The packages of setup.cfg, and `recipes/` as wrpo/shipped, so that a wheel brings the recipes."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = ("wrpo", "data_construction", "eval", "tiny_world", "real_world")
SHIPPED = [
    ".".join(("wrpo", "shipped", *folder.relative_to("recipes").parts))
    for folder in (Path("recipes"), *sorted(Path("recipes").rglob("*")))
    if folder.is_dir() and any(folder.glob("*.yaml"))
]

setup(
    packages=[*find_packages(include=[f"{name}*" for name in PACKAGES]), *SHIPPED],
    package_dir={"wrpo.shipped": "recipes"},
)
