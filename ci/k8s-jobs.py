#!/usr/bin/env python3
"""Checks the Jobs that queue-manager makes, and the YAML files below k8s/queue-manager, as Kubernetes would.

Usage: k8s-jobs.py FOLDER, into which queue-manager's tests wrote their Jobs: STREAMFORGE_JOBS=FOLDER cargo test -p
queue-manager. Needs PyYAML and kubernetes-validate. Checks each against the strict schemas of several versions of
Kubernetes, and labels, which schemas pass over. Ends with 1 and every fault if one does not fit, or if there is none.
"""

import json
import re
import sys
from pathlib import Path

import kubernetes_validate
import yaml

MANIFESTS = Path(__file__).resolve().parent.parent / "k8s" / "queue-manager"
# The oldest in which podFailurePolicy is stable, the one whose types are built in, and the newest that is known.
VERSIONS = ("1.31", "1.33", kubernetes_validate.latest_version())
LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which the last would silently win."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


def labels_of(resource):
    yield from resource.get("metadata", {}).get("labels", {}).items()
    template = resource.get("spec", {}).get("template", {})
    if template:
        yield from labels_of(template)


def faults_of(resource):
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(resource, version, strict=True)
        except kubernetes_validate.SchemaNotFoundError as error:
            yield f"Kubernetes {version}: {error}"
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {'.'.join(str(part) for part in error.path)}: {error.message}"
    for key, value in labels_of(resource):
        if not isinstance(value, str) or not LABEL.fullmatch(value):
            yield f"label {key}: {value!r}"


def main():
    jobs = [(file, json.loads(file.read_text())) for file in sorted(Path(sys.argv[1]).glob("*.json"))]
    manifests = [
        (file, resource)
        for file in sorted(MANIFESTS.rglob("*.yaml"))
        for resource in yaml.load_all(file.read_text(), StrictLoader)
        if resource
    ]
    faults = [
        f"{file.name}: {resource.get('kind')} {resource.get('metadata', {}).get('name')}: {fault}"
        for file, resource in jobs + manifests
        for fault in faults_of(resource)
    ]
    faults += [f"no Job in {sys.argv[1]}"] * (not jobs) + [f"no resource below {MANIFESTS}"] * (not manifests)
    print(
        "\n".join(faults)
        or f"{len(jobs)} Jobs and {len(manifests)} resources fit the schemas of Kubernetes {', '.join(VERSIONS)}"
    )
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
