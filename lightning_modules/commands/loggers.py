"""Loggers that the command line makes, with a place to write to where they need one."""

import os
from pathlib import Path
from typing import Any


def give_mlflow_a_database(loggers: Any, root: str | Path) -> None:
    """Let an ``MLFlowLogger`` without a ``tracking_uri`` write to ``ROOT/mlflow.db``.

    Lightning's default is a folder of files, which MLflow no longer writes to.

    Args:
        loggers: ``trainer.logger`` of a config, which is changed: a logger, several, or neither.
        root: folder of all runs.
    """
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        options = getattr(logger, "init_args", None)
        if options is None or not logger.class_path.endswith(".MLFlowLogger"):
            continue
        if options.get("tracking_uri") is None and "MLFLOW_TRACKING_URI" not in os.environ:
            folder = Path(root).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            options["tracking_uri"] = f"sqlite:///{folder / 'mlflow.db'}"
            if options.get("artifact_location") is None:
                options["artifact_location"] = str(folder / "mlflow")
