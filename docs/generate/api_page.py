"""Generates the library reference page; mkdocstrings fills it in."""

import projheads

__all__ = ["api_page"]

_HOSTS = {
    "projheads.hosts": ["load_host", "available_hosts"],
    "projheads.hosts.base": ["EncodingSettings", "OpenOptions", "Host", "HostModel"],
}


def api_page() -> str:
    """Return the page's Markdown: every public name of the package, then the host adapters."""
    lines = [
        "# Library",
        "The public names of `projheads`, then the host adapters. The package depends only on torch and safetensors.",
    ]
    for name in sorted(projheads.__all__, key=str.lower):
        lines.append(f"::: projheads.{projheads._MODULE_OF[name]}.{name}")
    lines.append("## Hosts")
    for module, names in _HOSTS.items():
        lines += [f"::: {module}.{name}" for name in names]
    return "\n\n".join(lines) + "\n"
