"""The YAML of an experiment: its keys and their defaults.

A file states only what differs from the defaults below. ``load_config`` checks the complete file and reports
every mistake with its line; ``dump_config`` writes the configuration with every default filled in.
"""

from experiment.config.dataset_section import DatasetRef, EvalDatasetRef
from experiment.config.eval_section import EvalConfig
from experiment.config.grid import Grid, Point, at_edge, grid_points, grow_grid
from experiment.config.heads_section import HeadsConfig
from experiment.config.model_list import GivenModelsConfig
from experiment.config.model_section import ModelConfig
from experiment.config.question_section import QuestionConfig
from experiment.config.schema import ExperimentConfig, ReferencePoint
from experiment.config.sweep_section import SweepConfig
from experiment.config.train_section import OptimizerConfig, TrainConfig

__all__ = [
    "DatasetRef",
    "EvalConfig",
    "EvalDatasetRef",
    "ExperimentConfig",
    "GivenModelsConfig",
    "Grid",
    "HeadsConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Point",
    "QuestionConfig",
    "ReferencePoint",
    "SweepConfig",
    "TrainConfig",
    "at_edge",
    "grid_points",
    "grow_grid",
]
