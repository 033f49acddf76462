"""The YAML of an experiment: what can stand in it, and what each default is.

A file states only what differs from the defaults below. ``load_config`` checks the whole file at once and reports
every mistake with its line; ``dump_config`` writes the configuration with every default in place.
"""

from experiment.config.checkpoints import CheckpointsConfig
from experiment.config.dataset import DatasetRef, EvalDatasetRef
from experiment.config.eval import EvalConfig
from experiment.config.experiment import ExperimentConfig
from experiment.config.heads import HeadsConfig
from experiment.config.loss import ContrastiveConfig, KLConfig, MarginMSEConfig
from experiment.config.model import ModelConfig
from experiment.config.sweep import Grid, Point, grid_points
from experiment.config.train import OptimizerConfig, TrainConfig

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
