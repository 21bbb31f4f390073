"""Verdicts for machines: JUnit XML and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from onnxslim.errors import OutputError
from onnxslim.regress.checks import Verdict


def junit(verdict: Verdict) -> str:
    """Return a test suite in JUnit's XML, a test case for each thing that was compared."""
    failed = [finding for finding in verdict.findings if not finding.passed]
    suite = ElementTree.Element(
        "testsuite",
        name=f"onnxslim check {verdict.model}",
        tests=str(len(verdict.findings)),
        failures=str(len(failed)),
        errors="0",
    )
    for finding in verdict.findings:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"onnxslim.{verdict.model}", name=finding.name
        )
        said = f"{finding.found} (allowed: {finding.allowed})"
        if not finding.passed:
            ElementTree.SubElement(case, "failure", message=said).text = said
        else:
            ElementTree.SubElement(case, "system-out").text = said
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def write(path: Path, text: str) -> None:
    """Write *text*. Raises OutputError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def as_json(verdict: Verdict) -> str:
    """Return the verdict as JSON."""
    return json.dumps(verdict.as_dict(), indent=2) + "\n"
