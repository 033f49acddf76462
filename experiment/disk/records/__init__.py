"""The JSON files of an experiment, one class each: training and evaluation write them, both and the report read them.

Every field is written, null if it does not apply. A field added later has a default, so older files can be read.
"""

from experiment.disk.records.evaluation_json import (
    CandidateRecall,
    DatasetFacts,
    EvaluationBytes,
    EvaluationRecord,
    EvaluationTimings,
    IndexFacts,
    ReferenceRecord,
    StandIn,
    StandInStates,
    StorageEntry,
    TextCounts,
    TextsRecord,
)
from experiment.disk.records.explain_json import ExplainRecord, Finding, Meaning, QueriesRecord, QueryFacts, WordsRecord
from experiment.disk.records.rounds_json import LookRecord, LookState, RoundsRecord
from experiment.disk.records.trial_json import (
    FinalLoss,
    ProbePoint,
    SweepPoint,
    SweepRecord,
    TrainLine,
    TrainTimings,
    TrialRecord,
    axis_text,
    read_train_lines,
    row_label,
)

__all__ = [
    "CandidateRecall",
    "DatasetFacts",
    "EvaluationBytes",
    "EvaluationRecord",
    "EvaluationTimings",
    "ExplainRecord",
    "FinalLoss",
    "Finding",
    "IndexFacts",
    "LookRecord",
    "LookState",
    "Meaning",
    "ProbePoint",
    "QueriesRecord",
    "QueryFacts",
    "ReferenceRecord",
    "RoundsRecord",
    "StandIn",
    "StandInStates",
    "StorageEntry",
    "SweepPoint",
    "SweepRecord",
    "TextCounts",
    "TextsRecord",
    "TrainLine",
    "TrainTimings",
    "TrialRecord",
    "WordsRecord",
    "axis_text",
    "read_train_lines",
    "row_label",
]
