"""The YAML of an experiment: what can stand in it, and what each default is.

A file states only what differs from the defaults below. ``load_config`` checks the whole file at once and reports
every mistake with its line; ``dump_config`` writes the configuration with every default in place.
"""

from experiment.config.dataset_section import DatasetRef, EvalDatasetRef
from experiment.config.eval_section import EvalConfig
from experiment.config.grid import Grid, Point, grid_points
from experiment.config.heads_section import HeadsConfig
from experiment.config.loss_section import ContrastiveConfig, KLConfig, MarginMSEConfig
from experiment.config.model_list import CheckpointsConfig
from experiment.config.model_section import ModelConfig
from experiment.config.schema import ExperimentConfig
from experiment.config.train_section import OptimizerConfig, TrainConfig

__all__ = [
    "CheckpointsConfig",
    "ContrastiveConfig",
    "DatasetRef",
    "EvalConfig",
    "EvalDatasetRef",
    "ExperimentConfig",
    "Grid",
    "HeadsConfig",
    "KLConfig",
    "MarginMSEConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Point",
    "TrainConfig",
    "grid_points",
]
