"""Validates YAML files against a JSON Schema, which has to be one itself: SCHEMA FILE... Exit 1 on a finding."""

import json
import re
import sys

import yaml
from jsonschema import Draft202012Validator


class Loader(yaml.SafeLoader):
    """Types by the core schema of YAML 1.2, as editors have them: a date is a string, and so is `yes`."""


Loader.yaml_implicit_resolvers = {}
for name, pattern, first in [
    ("null", r"^(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("float", r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$", list("-+.0123456789")),
]:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(pattern), first)


def main():
    schema_path, *paths = sys.argv[1:]
    with open(schema_path, encoding="utf-8") as file:
        schema = json.load(file)
    Draft202012Validator.check_schema(schema)
    validator, findings = Draft202012Validator(schema), 0
    for path in paths:
        with open(path, encoding="utf-8") as file:
            instance = yaml.load(file, Loader)
        for error in validator.iter_errors(instance):
            findings += 1
            print(f"{path}: {error.json_path}: {error.message[:300]}")
    return 1 if findings else 0


sys.exit(main())
