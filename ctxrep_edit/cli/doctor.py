"""What is installed, what is missing, and the mend."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ctxrep_edit import __version__
from ctxrep_edit.errors import CtxrepError
from ctxrep_edit.faithfulness import lpips_weights
from ctxrep_edit.plugins import catalog, loading

PACKAGES = ("torch", "torchvision", "diffusers", "transformers", "lpips", "pillow", "pluggy")


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    good: bool
    what: str
    mend: str = ""


def examine() -> list[Finding]:
    """Looks at packages, device, LPIPS weights, adapters and embedded models; changes and fetches nothing."""
    findings = [Finding(True, f"ctxrep-edit {__version__}")]
    for package in PACKAGES:
        try:
            findings.append(Finding(True, f"{package} {version(package)}"))
        except PackageNotFoundError:
            findings.append(Finding(False, f"{package} is not installed", f"pip install {package}"))
    if all(finding.good for finding in findings):
        from ctxrep_edit.sampling.pipelines import describe_device

        findings.append(Finding(True, describe_device()))
    path = lpips_weights.weights_path()
    missing = Finding(False, f"no LPIPS weights at {path}", "ctxrep-edit weights")
    findings.append(Finding(True, f"LPIPS weights at {path}") if path.is_file() else missing)
    try:
        for shelf in catalog.SHELVES:
            shelf.claims()  # leaves out what is broken
        findings.append(Finding(True, f"adapters for {', '.join(sorted(catalog.pipelines()))}"))
        for model in catalog.MODELS.all().values():
            there = Path(model.folder, "model_index.json").is_file()
            findings.append(
                Finding(there, f"model {model.name} in {model.folder}", "pip install --force-reinstall ctxrep-edit")
            )
    except CtxrepError as error:
        findings.append(Finding(False, "plugins contradict each other", str(error)))
    for record in loading.records():
        if record.status in ("broken", "contested"):
            what = f"plugin {record.title} is left out: {record.error}"
            findings.append(Finding(False, what, f"update or uninstall it, or {record.off()}"))
    return findings
