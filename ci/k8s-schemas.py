#!/usr/bin/env python3
"""Checks the YAML files below k8s/kafka against the JSON schemas of Strimzi's resources.

Usage: k8s-schemas.py SCHEMAS, a folder that has kafkauser-v1.json and so on: kind and version, in lower case.
Needs PyYAML and jsonschema. Ends with 1 and every fault if a resource does not fit, or has no schema.
"""

import json
import sys
from pathlib import Path

import jsonschema
import yaml

MANIFESTS = Path(__file__).resolve().parent.parent / "k8s" / "kafka"


class StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping, of which the last would silently win."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"twice: {twice}", node.start_mark)
        return super().construct_mapping(node, deep)


def faults_of(resource, schemas):
    kind, version = resource["kind"], resource["apiVersion"].rpartition("/")[2]
    path = schemas / f"{kind.lower()}-{version}.json"
    if not path.is_file():
        yield f"no schema {path.name}"
        return
    validator = jsonschema.Draft202012Validator(json.loads(path.read_text()))
    for error in validator.iter_errors(resource):
        yield f"{error.json_path}: {error.message}"


def main():
    schemas = Path(sys.argv[1])
    checked, faults = 0, []
    for file in sorted(MANIFESTS.rglob("*.yaml")):
        for resource in filter(None, yaml.load_all(file.read_text(), StrictLoader)):
            checked += 1
            name = f"{file.name}: {resource.get('kind')} {resource.get('metadata', {}).get('name')}"
            faults += [f"{name}: {fault}" for fault in faults_of(resource, schemas)]
    print("\n".join(faults) or f"{checked} resources fit their schemas")
    if not checked:
        print(f"no resource below {MANIFESTS}")
    sys.exit(1 if faults or not checked else 0)


if __name__ == "__main__":
    main()
