"""Diagnostics: why a head wins or loses. Each is one file in ``diagnostics/``; yours can be registered too."""

from eval.explain.given import Given
from eval.explain.registry import Diagnostic, Measured, import_diagnostics, list_diagnostics, register_diagnostic

__all__ = ["Diagnostic", "Given", "Measured", "import_diagnostics", "list_diagnostics", "register_diagnostic"]
