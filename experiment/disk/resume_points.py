"""Resume points that a killed command left beside a finished trial."""

from experiment.disk.files import read_json, remove_paths
from experiment.disk.layout import ExperimentFolder, TrialFolder
from experiment.disk.models import is_intact
from projheads.errors import ProjheadsError

__all__ = ["remove_resume_points"]


def remove_resume_points(folder: ExperimentFolder) -> None:
    """Delete the resume points of finished trials, which a command that was killed at their end could not."""
    for found in [*folder.path.glob("trials/*/seed-*/resume"), *folder.path.glob("sweep/*/*/seed-*/resume")]:
        if _is_done(TrialFolder(found.parent)):
            remove_paths([found])


def _is_done(trial: TrialFolder) -> bool:
    """Return whether a trial is finished and undamaged, and its resume points are not those of a later training."""
    try:
        record = trial.read_trial()
        # A point without a state.json was being deleted, and nothing resumes from it.
        keys = {read_json(state)["key"] for state in trial.resume.glob("step-*/state.json")}
    except (ProjheadsError, OSError, KeyError, TypeError):
        return False
    if record is None or record.status != "finished" or not keys <= {record.key}:
        return False
    return is_intact(trial.model, record.weights_hash)
