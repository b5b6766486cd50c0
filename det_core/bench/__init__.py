"""The benchmark: cases, methods, seeds in; units of work on disk; a report out. Start at `runner.run_bench`."""

from importlib.util import find_spec

NEEDS = {"jinja2": "jinja2", "matplotlib": "matplotlib", "sklearn": "scikit-learn"}  # module: package


def check_installed() -> None:
    """Raises: ValueError, one line, where something is missing that only the benchmark needs."""
    missing = [package for module, package in NEEDS.items() if find_spec(module) is None]
    if missing:
        raise ValueError(f"the benchmark needs {' and '.join(missing)}: pip install {' '.join(missing)}")
